// One virtual machine and its memory slots.
#pragma once
#include <span>
#include <vector>

#include "kvm/resource.h"
#include "kvm/system.h"

namespace guestwright::kvm {

class Vm {
 public:
  explicit Vm(const System &system);
  const Fd &fd() const { return fd_; }
  // Adds zeroed memory at a guest-physical address (both multiples of 4096); it lives as long as the VM.
  std::span<uint8_t> addMemory(uint64_t address, size_t size);
  // Guest-physical bytes; empty where the range is not wholly inside one slot.
  std::span<uint8_t> memory(uint64_t address, size_t size) const;

 private:
  struct Slot {
    uint64_t address;
    Mapping mapping;
  };
  // Before fd_: memory is unmapped only after the VM is gone.
  std::vector<Slot> slots_;
  Fd fd_;
};

}  // namespace guestwright::kvm
