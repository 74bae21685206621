// Runs guest code under a wall-clock limit.
//
// Threats: a guest that loops for ever, and a KVM whose emulator does not come back.  The vCPU runs on a thread of its own;
// when the time is over its run structure asks for an immediate exit and a signal takes the thread out of KVM_RUN.  The flag
// is set before the signal is sent, so a signal that arrives just before KVM_RUN is not lost.  Should the kernel not
// return even then, the thread is given up together with all it owns, and the caller goes on.
#pragma once
#include <atomic>
#include <chrono>
#include <functional>
#include <mutex>

#include "kvm/vcpu.h"

namespace guestwright::kvm {

class Watch {
 public:
  bool expired() const { return expired_.load(); }
  // Vcpu::run, stopped when the time is over; `interrupted` then.
  Exit run(Vcpu &vcpu);
  void expire();

 private:
  std::mutex mutex_;
  Vcpu *running_ = nullptr;
  std::atomic<bool> expired_{false};
};

enum class Ended { finished, expired, stuck };

// Calls `job` on a new thread and waits for it; a Failure it throws is thrown here.  `job` must own (or share) what it uses: with
// `stuck` it is still running, and nothing it writes may be read.
Ended runWithin(std::chrono::milliseconds limit, std::function<void(Watch &)> job);

}  // namespace guestwright::kvm
