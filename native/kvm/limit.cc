#include "kvm/limit.h"

#include <pthread.h>
#include <signal.h>

#include <cerrno>
#include <condition_variable>
#include <memory>
#include <optional>
#include <system_error>
#include <thread>

namespace guestwright::kvm {

Exit Watch::run(Vcpu &vcpu) {
  {
    std::lock_guard lock(mutex_);
    if (expired_) return {.kind = ExitKind::interrupted, .reason = KVM_EXIT_INTR};
    running_ = &vcpu;
  }
  // The vCPU must be forgotten on every way out: it may be gone when the time is over.
  struct Leave {
    Watch &watch;
    ~Leave() {
      std::lock_guard lock(watch.mutex_);
      watch.running_ = nullptr;
    }
  } leave{*this};
  return vcpu.run();
}

void Watch::expire() {
  std::lock_guard lock(mutex_);
  expired_ = true;
  if (running_ != nullptr) running_->requestExit(true);
}

namespace {
struct Shared {
  Watch watch;
  std::mutex mutex;
  std::condition_variable changed;
  bool done = false;
  std::optional<Failure> failure;
};

// The second but last real-time signal: neither Node, V8, glibc nor valgrind use it.
int kickSignal() { return SIGRTMAX - 2; }

// Once for the process: a handler that does nothing, without SA_RESTART, so that the signal ends KVM_RUN with EINTR.
bool installKick() {
  struct sigaction action {};
  action.sa_handler = [](int) {};
  return ::sigaction(kickSignal(), &action, nullptr) == 0;
}

std::thread startQuiet(const std::shared_ptr<Shared> &shared, std::function<void(Watch &)> job) {
  // The process' own signals (SIGINT, SIGCHLD …) belong to Node's main thread: the new thread inherits a mask with all but ours.
  sigset_t all, before;
  sigfillset(&all);
  sigdelset(&all, kickSignal());
  ::pthread_sigmask(SIG_SETMASK, &all, &before);
  std::optional<std::thread> thread;
  int error = 0;
  try {
    thread.emplace([shared, job = std::move(job)]() mutable {
      std::optional<Failure> failure;
      try {
        job(shared->watch);
      } catch (const Failure &e) {
        failure = e;
      } catch (const std::exception &e) {
        failure = Failure{ENOMEM, e.what()};
      }
      // Closes the VM before the caller is told that it is over.
      job = nullptr;
      std::lock_guard lock(shared->mutex);
      shared->failure = std::move(failure);
      shared->done = true;
      shared->changed.notify_all();
    });
  } catch (const std::system_error &e) {
    error = e.code().value();
  }
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  if (!thread) throw Failure{error, "a thread for the vCPU"};
  return std::move(*thread);
}
}  // namespace

Ended runWithin(std::chrono::milliseconds limit, std::function<void(Watch &)> job) {
  static const bool installed = installKick();
  if (!installed) throw Failure{EINVAL, "sigaction"};
  auto shared = std::make_shared<Shared>();
  std::thread thread = startQuiet(shared, std::move(job));
  auto isDone = [&] { return shared->done; };
  std::unique_lock lock(shared->mutex);
  bool inTime = shared->changed.wait_for(lock, limit, isDone);
  if (!inTime) {
    shared->watch.expire();
    // Two seconds for the kernel to come back from KVM_RUN: a guest is kicked out in microseconds, an emulator in milliseconds.
    for (int tries = 0; tries < 200 && !shared->done; tries++) {
      ::pthread_kill(thread.native_handle(), kickSignal());
      shared->changed.wait_for(lock, std::chrono::milliseconds(10), isDone);
    }
  }
  bool done = shared->done;
  lock.unlock();
  if (!done) {
    thread.detach();
    return Ended::stuck;
  }
  thread.join();
  if (shared->failure) throw *shared->failure;
  return inTime ? Ended::finished : Ended::expired;
}

}  // namespace guestwright::kvm
