#include "kvm/guest.h"

#include <cerrno>
#include <cstring>
#include <memory>

namespace guestwright::kvm {

SmallGuest::SmallGuest(const System &system, Mode mode, std::span<const uint8_t> code, uint64_t entry, size_t memorySize)
    : vm_(system), memory_(vm_.addMemory(0, memorySize)), vcpu_(system, vm_, 0) {
  if (memory_.size() < CODE_ADDRESS || memory_.size() - CODE_ADDRESS < code.size()) throw Failure{ENOSPC, "guest memory is too small for its code"};
  if (mode != Mode::real) writeGdt(memory_);
  if (mode == Mode::long64) writePageTables(memory_);
  std::memcpy(memory_.data() + CODE_ADDRESS, code.data(), code.size());
  auto leaves = system.supportedCpuid();
  vcpu_.setCpuid(leaves);
  vcpu_.enter(mode, entry);
}

namespace {
// A guest that does nothing but talk to a port must not fill our memory.
constexpr size_t ACCESSES_MAX = 10'000;

void drive(const RecordedGuest &guest, Watch &watch, Recording &result) {
  System system;
  SmallGuest small(system, guest.mode, guest.code, CODE_ADDRESS, guest.memorySize);
  size_t answered = 0;
  while (result.end.empty()) {
    Exit e = watch.run(small.vcpu());
    switch (e.kind) {
      case ExitKind::io:
      case ExitKind::mmio:
        if (!e.write) e.answer(answered < guest.answers.size() ? guest.answers[answered++] : 0);
        result.accesses.push_back({e.kind, e.write, e.address, e.size, e.value()});
        if (result.accesses.size() == ACCESSES_MAX) result.end = "too many exits";
        break;
      case ExitKind::halt:
        result.end = "halt";
        break;
      case ExitKind::shutdown:
        result.end = "shutdown";
        break;
      case ExitKind::interrupted:
        if (watch.expired()) result.end = "time limit";
        break;
      default:
        result.end = exitName(e.reason);
        if (e.kind == ExitKind::internalError) result.end += " (" + suberrorName(e.detail) + (e.instruction.empty() ? "" : " of " + hexBytes(e.instruction)) + ")";
    }
  }
  result.registers = dumpRegisters(small.vcpu());
}
}  // namespace

Recording record(const RecordedGuest &guest, std::chrono::milliseconds limit) {
  auto result = std::make_shared<Recording>();
  if (runWithin(limit, [result, guest](Watch &watch) { drive(guest, watch, *result); }) == Ended::stuck) return {{}, "KVM_RUN does not return", ""};
  return *result;
}

}  // namespace guestwright::kvm
