#include "kvm/probe.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <memory>
#include <optional>

#include "kvm/guest.h"
#include "kvm/probe-guest.h"

namespace guestwright::kvm {

namespace {
using Clock = std::chrono::steady_clock;
double seconds(Clock::duration d) { return std::chrono::duration<double>(d).count(); }

// The loop is made longer until one round takes this long: an exit costs microseconds and must not count.
constexpr double ROUND_SECONDS = 0.002;
constexpr uint32_t FIRST_ITERATIONS = 10'000, ITERATIONS_MAX = 1u << 28;
constexpr int GOOD_ROUNDS = 3;

// An exit that ends a step, told.  `port fault` is the guest's own exception handler speaking.
void explain(const Exit &e, SmallGuest &guest, ProbeStep &step) {
  if (e.kind == ExitKind::io && e.address == probe_guest::PORT_FAULT) {
    step.fact = "exception " + std::to_string(e.value()) + " in the guest";
    return;
  }
  step.fact = exitName(e.reason);
  if (e.kind == ExitKind::internalError) step.fact += " (" + suberrorName(e.detail) + ")";
  if (e.kind == ExitKind::failEntry) step.fact += " (hardware reason " + std::to_string(e.detail) + ")";
  step.instruction = hexBytes(e.instruction);
  if (e.kind == ExitKind::internalError && e.instruction.empty()) {
    // Older kernels do not tell the bytes; the guest's addresses are its physical ones.
    uint64_t rip = guest.vcpu().registers().rip;
    auto memory = guest.memory();
    if (rip < memory.size()) step.instruction = hexBytes(memory.subspan(rip, std::min<size_t>(15, memory.size() - rip)));
  }
  step.registers = dumpRegisters(guest.vcpu());
}

// Runs to the next port access; nothing when the step is over (told in `step`, or out of time).
std::optional<Exit> nextAccess(SmallGuest &guest, Watch &watch, ProbeStep &step) {
  for (;;) {
    Exit e = watch.run(guest.vcpu());
    if (e.kind == ExitKind::interrupted) {
      if (!watch.expired()) continue;
      step.fact = "not done within the time limit";
      return {};
    }
    if (e.kind == ExitKind::io && e.address != probe_guest::PORT_FAULT) return e;
    explain(e, guest, step);
    return {};
  }
}

// Making a VM takes 100 ms where KVM is itself in an emulated machine, so that one guest does all steps as long as they succeed.
class Stage {
 public:
  explicit Stage(const System &system) : system_(system) {}
  SmallGuest &at(uint64_t entry) {
    if (guest_) {
      guest_->vcpu().enter(Mode::long64, CODE_ADDRESS + entry);
    } else {
      guest_.emplace(system_, Mode::long64, probe_guest::code(), CODE_ADDRESS + entry, probe_guest::MEMORY_SIZE);
      writeIdt64(guest_->memory(), CODE_ADDRESS + probe_guest::faultHandlers(), probe_guest::FAULT_STRIDE);
    }
    return *guest_;
  }
  // After a failure the vCPU's state is anybody's guess.
  void discard() { guest_.reset(); }

 private:
  const System &system_;
  std::optional<SmallGuest> guest_;
};

// A step that reports one number and halts.
void check(Stage &stage, Watch &watch, uint64_t entry, uint32_t expected, ProbeStep &step) {
  SmallGuest &guest = stage.at(entry);
  auto e = nextAccess(guest, watch, step);
  if (!e) return;
  if (!e->write || e->address != probe_guest::PORT_RESULT || e->value() != expected) {
    step.fact = "the guest's result is " + std::to_string(e->value()) + ", expected " + std::to_string(expected);
    return;
  }
  // The port access is complete, and the vCPU ready for other registers, only after the next run.
  if (auto more = nextAccess(guest, watch, step); more) step.fact = "the guest did not halt";
  step.ok = step.fact == exitName(KVM_EXIT_HLT);
  if (step.ok) step = {.name = step.name, .ok = true};
}

// The same rounds, natively; the best rate, as others use this machine too.
double nativeRate(uint32_t iterations, uint32_t &result) {
  double best = 0;
  for (int i = 0; i < GOOD_ROUNDS; i++) {
    std::array<uint8_t, probe_guest::LOOP_BYTES> buffer{};
    auto start = Clock::now();
    result = probe_guest::runLoop(iterations, buffer.data());
    best = std::max(best, iterations / std::max(seconds(Clock::now() - start), 1e-9));
  }
  return best;
}

void timeLoop(Stage &stage, Watch &watch, ProbeReport &report, ProbeStep &step) {
  SmallGuest &guest = stage.at(probe_guest::loop());
  uint32_t iterations = FIRST_ITERATIONS;
  auto start = Clock::now();
  bool running = false;
  for (int good = 0; good < GOOD_ROUNDS;) {
    auto e = nextAccess(guest, watch, step);
    double took = seconds(Clock::now() - start);
    if (!e) {
      if (watch.expired() && running && report.guestRate == 0) report.guestRateBelow = iterations / took;
      if (report.guestRate > 0) break;  // earlier rounds say enough
      if (watch.expired() && running) report.nativeRate = nativeRate(iterations, iterations);
      return;
    }
    if (!e->write && e->address == probe_guest::PORT_COUNT) {
      e->answer(iterations);
      std::memset(guest.memory().data() + probe_guest::DATA_ADDRESS, 0, probe_guest::LOOP_BYTES);
      running = true;
      start = Clock::now();
      continue;
    }
    running = false;
    report.guestRate = std::max(report.guestRate, iterations / std::max(took, 1e-9));
    uint32_t expected = 0;
    report.nativeRate = std::max(report.nativeRate, nativeRate(iterations, expected));
    if (e->value() != expected) {
      step.fact = "the loop's result is " + std::to_string(e->value()) + ", expected " + std::to_string(expected);
      return;
    }
    if (took >= ROUND_SECONDS)
      good++;
    else if (iterations < ITERATIONS_MAX / 8)
      iterations *= 8;
    else
      good++;
  }
  step.ok = true;
  step.fact.clear();
}

void runSteps(Watch &watch, ProbeReport &report) {
  std::optional<System> system;
  try {
    system.emplace();
  } catch (const Failure &e) {
    if (e.fact.starts_with("open ")) {
      report.openError = e.error;
      return;
    }
    report.steps.push_back({.name = "start", .fact = e.fact, .error = e.error});
    return;
  }
  Stage stage(*system);
  auto step = [&](const char *name, auto body) {
    ProbeStep &s = report.steps.emplace_back(ProbeStep{.name = name});
    try {
      body(s);
    } catch (const Failure &e) {
      s.ok = false;
      s.fact = e.fact;
      s.error = e.error;
    }
    if (!s.ok) stage.discard();
    return s.ok;
  };
  using namespace probe_guest;
  if (!step("start", [&](ProbeStep &s) { check(stage, watch, started(), STARTED, s); })) return;
  // One that fails does not stop the others: the report says all that is wrong.
  step("sse2", [&](ProbeStep &s) { check(stage, watch, sse2(), SSE2_RESULT, s); });
  step("cmpxchg16b", [&](ProbeStep &s) { check(stage, watch, cmpxchg16b(), CMPXCHG16B_RESULT, s); });
  step("loop", [&](ProbeStep &s) { timeLoop(stage, watch, report, s); });
}
}  // namespace

ProbeReport probe(std::chrono::milliseconds limit) {
  auto start = Clock::now();
  auto report = std::make_shared<ProbeReport>();
  ProbeReport result;
  try {
    if (runWithin(limit, [report](Watch &watch) { runSteps(watch, *report); }) == Ended::stuck)
      result.steps.push_back({.name = "start", .fact = "KVM_RUN does not return after a signal"});
    else
      result = std::move(*report);
  } catch (const Failure &e) {
    result.steps.push_back({.name = "start", .fact = e.fact, .error = e.error});
  }
  result.milliseconds = seconds(Clock::now() - start) * 1000;
  return result;
}

}  // namespace guestwright::kvm
