// One virtual processor with its run structure.
#pragma once
#include <linux/kvm.h>

#include <vector>

#include "kvm/exit.h"
#include "kvm/layout.h"
#include "kvm/resource.h"
#include "kvm/system.h"
#include "kvm/vm.h"

namespace guestwright::kvm {

class Vcpu {
 public:
  Vcpu(const System &system, const Vm &vm, unsigned index);
  // The leaves of System::supportedCpuid, as they are or trimmed to a model.
  void setCpuid(std::span<const kvm_cpuid_entry2> leaves);
  kvm_regs registers() const;
  void setRegisters(const kvm_regs &regs);
  kvm_sregs specialRegisters() const;
  void setSpecialRegisters(const kvm_sregs &sregs);
  // Puts the processor into a mode, at `entry` with the small guest's stack; the tables of layout.h must be in memory.
  void enter(Mode mode, uint64_t entry);
  // Runs until the guest needs something.  A signal or an immediate exit gives `interrupted`.
  Exit run();
  // Makes a run in progress (with a signal to its thread) or the next one return at once.  Any thread.
  void requestExit(bool on);

 private:
  kvm_run &shared() const;
  Fd fd_;
  Mapping run_;
};

// "rip=0x8000 rsp=… cr0=…": for a report of a vCPU that stopped where it should not.
std::string dumpRegisters(const Vcpu &vcpu);

}  // namespace guestwright::kvm
