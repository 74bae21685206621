#include "kvm/exit.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "kvm/resource.h"

namespace guestwright::kvm {

uint64_t Exit::value() const {
  uint64_t v = 0;
  std::memcpy(&v, data.data(), std::min<size_t>({sizeof v, size, data.size()}));
  return v;
}

void Exit::answer(uint64_t value) const {
  for (size_t at = 0; size > 0 && at + size <= data.size(); at += size) std::memcpy(data.data() + at, &value, std::min<size_t>(size, sizeof value));
}

namespace {
// Layout of internal.data for suberror "emulation": flags, then one byte of length and up to 15 instruction bytes.  Read from
// the raw words, as older headers do not name the fields.
std::vector<uint8_t> failedInstruction(const kvm_run &run) {
  constexpr uint64_t HAS_BYTES = 1;
  if (run.internal.suberror != KVM_INTERNAL_ERROR_EMULATION || run.internal.ndata < 3 || (run.internal.data[0] & HAS_BYTES) == 0) return {};
  uint8_t raw[16];
  std::memcpy(raw, &run.internal.data[1], sizeof raw);
  return {raw + 1, raw + 1 + std::min<uint8_t>(raw[0], 15)};
}
}  // namespace

Exit decodeExit(std::span<uint8_t> bytes) {
  // The mapping begins with a kvm_run (System checks that it is large enough) and is page-aligned.
  auto &run = *reinterpret_cast<kvm_run *>(bytes.data());
  Exit e{.kind = ExitKind::other, .reason = run.exit_reason};
  switch (run.exit_reason) {
    case KVM_EXIT_IO: {
      e.kind = ExitKind::io;
      e.write = run.io.direction == KVM_EXIT_IO_OUT;
      e.address = run.io.port;
      e.size = run.io.size;
      e.count = run.io.count;
      uint64_t length = static_cast<uint64_t>(run.io.size) * run.io.count;
      if (run.io.data_offset > bytes.size() || length > bytes.size() - run.io.data_offset) throw Failure{EPROTO, "KVM_EXIT_IO: the data are outside the run structure"};
      e.data = bytes.subspan(run.io.data_offset, length);
      break;
    }
    case KVM_EXIT_MMIO:
      e.kind = ExitKind::mmio;
      e.write = run.mmio.is_write != 0;
      e.address = run.mmio.phys_addr;
      e.size = std::min<unsigned>(run.mmio.len, sizeof run.mmio.data);
      e.count = 1;
      e.data = {run.mmio.data, e.size};
      break;
    case KVM_EXIT_HLT:
      e.kind = ExitKind::halt;
      break;
    case KVM_EXIT_SHUTDOWN:
      e.kind = ExitKind::shutdown;
      break;
    case KVM_EXIT_FAIL_ENTRY:
      e.kind = ExitKind::failEntry;
      e.detail = run.fail_entry.hardware_entry_failure_reason;
      break;
    case KVM_EXIT_INTERNAL_ERROR:
      e.kind = ExitKind::internalError;
      e.detail = run.internal.suberror;
      e.instruction = failedInstruction(run);
      break;
    case KVM_EXIT_INTR:
      e.kind = ExitKind::interrupted;
      break;
  }
  return e;
}

std::string exitName(uint32_t reason) {
  switch (reason) {
#define NAME(x) \
  case x:       \
    return #x;
    NAME(KVM_EXIT_UNKNOWN)
    NAME(KVM_EXIT_EXCEPTION)
    NAME(KVM_EXIT_IO)
    NAME(KVM_EXIT_HYPERCALL)
    NAME(KVM_EXIT_DEBUG)
    NAME(KVM_EXIT_HLT)
    NAME(KVM_EXIT_MMIO)
    NAME(KVM_EXIT_IRQ_WINDOW_OPEN)
    NAME(KVM_EXIT_SHUTDOWN)
    NAME(KVM_EXIT_FAIL_ENTRY)
    NAME(KVM_EXIT_INTR)
    NAME(KVM_EXIT_SET_TPR)
    NAME(KVM_EXIT_TPR_ACCESS)
    NAME(KVM_EXIT_NMI)
    NAME(KVM_EXIT_INTERNAL_ERROR)
    NAME(KVM_EXIT_SYSTEM_EVENT)
    NAME(KVM_EXIT_IOAPIC_EOI)
#undef NAME
  }
  return "KVM_EXIT_" + std::to_string(reason);
}

std::string suberrorName(uint64_t suberror) {
  switch (suberror) {
    case KVM_INTERNAL_ERROR_EMULATION:
      return "emulation";
    case KVM_INTERNAL_ERROR_SIMUL_EX:
      return "simultaneous exceptions";
    case KVM_INTERNAL_ERROR_DELIVERY_EV:
      return "event delivery";
    case 4:  // KVM_INTERNAL_ERROR_UNEXPECTED_EXIT_REASON, since Linux 5.6
      return "unexpected exit reason";
  }
  return "suberror " + std::to_string(suberror);
}

std::string hexBytes(std::span<const uint8_t> bytes) {
  constexpr char DIGITS[] = "0123456789abcdef";
  std::string text;
  for (uint8_t b : bytes) {
    if (!text.empty()) text += ' ';
    text += DIGITS[b >> 4];
    text += DIGITS[b & 15];
  }
  return text;
}

}  // namespace guestwright::kvm
