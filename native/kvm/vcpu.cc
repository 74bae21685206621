#include "kvm/vcpu.h"

#include <sys/ioctl.h>

#include <cerrno>
#include <cstdio>

#include "kvm/cpuid-table.h"

namespace guestwright::kvm {

Vcpu::Vcpu(const System &system, const Vm &vm, unsigned index) : fd_(::ioctl(vm.fd().get(), KVM_CREATE_VCPU, static_cast<unsigned long>(index))) {
  if (fd_.get() < 0) fail("KVM_CREATE_VCPU");
  run_ = Mapping::shared(fd_, system.runSize());
}

void Vcpu::setCpuid(std::span<const kvm_cpuid_entry2> leaves) {
  CpuidTable table(leaves);
  if (::ioctl(fd_.get(), SET_CPUID2, table.data()) < 0) fail("KVM_SET_CPUID2");
}

kvm_regs Vcpu::registers() const {
  kvm_regs r{};
  if (::ioctl(fd_.get(), KVM_GET_REGS, &r) < 0) fail("KVM_GET_REGS");
  return r;
}
void Vcpu::setRegisters(const kvm_regs &r) {
  if (::ioctl(fd_.get(), KVM_SET_REGS, &r) < 0) fail("KVM_SET_REGS");
}
kvm_sregs Vcpu::specialRegisters() const {
  kvm_sregs s{};
  if (::ioctl(fd_.get(), KVM_GET_SREGS, &s) < 0) fail("KVM_GET_SREGS");
  return s;
}
void Vcpu::setSpecialRegisters(const kvm_sregs &s) {
  if (::ioctl(fd_.get(), KVM_SET_SREGS, &s) < 0) fail("KVM_SET_SREGS");
}

// The run structure is page-aligned and at least a kvm_run long (System checks).
kvm_run &Vcpu::shared() const { return *reinterpret_cast<kvm_run *>(run_.bytes().data()); }

void Vcpu::requestExit(bool on) { __atomic_store_n(&shared().immediate_exit, on ? 1 : 0, __ATOMIC_SEQ_CST); }

Exit Vcpu::run() {
  if (::ioctl(fd_.get(), KVM_RUN, 0) == 0) return decodeExit(run_.bytes());
  if (errno == EINTR || errno == EAGAIN) return {.kind = ExitKind::interrupted, .reason = KVM_EXIT_INTR};
  fail("KVM_RUN");
}

namespace {
constexpr uint64_t CR0_PE = 1, CR0_MP = 2, CR0_ET = 16, CR0_NE = 32, CR0_WP = 1 << 16, CR0_PG = 1ull << 31;
constexpr uint64_t CR4_PAE = 1 << 5, CR4_OSFXSR = 1 << 9, CR4_OSXMMEXCPT = 1 << 10;
constexpr uint64_t EFER_LME = 1 << 8, EFER_LMA = 1 << 10;

kvm_segment segment(uint16_t selector, uint8_t type, bool wide, bool code64) {
  kvm_segment s{};
  s.limit = 0xffffffff;
  s.selector = selector;
  s.type = type;
  s.present = 1;
  s.s = 1;
  s.g = 1;
  s.db = wide;
  s.l = code64;
  return s;
}
}  // namespace

void Vcpu::enter(Mode mode, uint64_t entry) {
  kvm_sregs s = specialRegisters();
  if (mode == Mode::real) {
    // The state after reset is real mode already, but CS points to the BIOS.
    s.cs.base = 0;
    s.cs.selector = 0;
  } else {
    bool wide = mode == Mode::long64;
    s.cs = segment(wide ? CODE64_SELECTOR : CODE32_SELECTOR, 0xb, !wide, wide);
    s.ds = s.es = s.fs = s.gs = s.ss = segment(DATA_SELECTOR, 0x3, true, false);
    s.gdt = {.base = GDT_ADDRESS, .limit = GDT_LIMIT, .padding = {}};
    // Without gates (32 bits) an exception is a triple fault: KVM_EXIT_SHUTDOWN.
    s.idt = {.base = IDT_ADDRESS, .limit = static_cast<uint16_t>(wide ? IDT_LIMIT : 0), .padding = {}};
    s.cr0 = CR0_PE | CR0_MP | CR0_ET | CR0_NE;
    s.cr4 = CR4_OSFXSR | CR4_OSXMMEXCPT;
    if (wide) {
      s.cr3 = PAGE_TABLES;
      s.cr4 |= CR4_PAE;
      s.cr0 |= CR0_PG | CR0_WP;
      s.efer = EFER_LME | EFER_LMA;
    }
  }
  setSpecialRegisters(s);
  kvm_regs r{};
  r.rip = entry;
  r.rsp = STACK_TOP;
  r.rflags = 2;
  setRegisters(r);
}

std::string dumpRegisters(const Vcpu &vcpu) {
  kvm_regs r = vcpu.registers();
  kvm_sregs s = vcpu.specialRegisters();
  char text[512];
  auto n = [](uint64_t v) { return static_cast<unsigned long long>(v); };
  std::snprintf(text, sizeof text,
                "rip=0x%llx rflags=0x%llx rax=0x%llx rbx=0x%llx rcx=0x%llx rdx=0x%llx rsi=0x%llx rdi=0x%llx rsp=0x%llx rbp=0x%llx "
                "cs=0x%x cr0=0x%llx cr2=0x%llx cr3=0x%llx cr4=0x%llx efer=0x%llx",
                n(r.rip), n(r.rflags), n(r.rax), n(r.rbx), n(r.rcx), n(r.rdx), n(r.rsi), n(r.rdi), n(r.rsp), n(r.rbp), s.cs.selector, n(s.cr0), n(s.cr2), n(s.cr3), n(s.cr4), n(s.efer));
  return text;
}

}  // namespace guestwright::kvm
