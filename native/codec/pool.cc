#include "pool.h"

#include <algorithm>

namespace guestwright {

Pool &Pool::shared() {
  // Never destroyed: a worker may still hold the lock while the process ends.
  static Pool *pool = new Pool(std::clamp(std::thread::hardware_concurrency(), 1u, 16u) - 1);
  return *pool;
}

Pool::Pool(size_t workers) {
  for (size_t i = 0; i < workers; i++) workers_.emplace_back([this] { work(); });
}

Pool::~Pool() {
  {
    std::lock_guard lock(mutex_);
    stop_ = true;
  }
  wake_.notify_all();
  for (auto &t : workers_) t.join();
}

void Pool::work() {
  std::unique_lock lock(mutex_);
  for (;;) {
    wake_.wait(lock, [this] { return stop_ || (job_ != nullptr && next_ < end_ && running_ < allowed_); });
    if (stop_) return;
    running_++;
    while (next_ < end_) {
      size_t i = next_++;
      const auto *job = job_;
      lock.unlock();
      (*job)(i);
      lock.lock();
    }
    if (--running_ == 0) done_.notify_all();
  }
}

void Pool::run(size_t n, const std::function<void(size_t)> &f, size_t threads) {
  if (n == 0) return;
  std::lock_guard caller(callers_);
  std::unique_lock lock(mutex_);
  job_ = &f;
  next_ = 0;
  end_ = n;
  allowed_ = threads == 0 ? workers_.size() + 1 : threads;
  running_ = 1;
  lock.unlock();
  if (allowed_ > 1 && n > 1) wake_.notify_all();
  lock.lock();
  while (next_ < end_) {
    size_t i = next_++;
    lock.unlock();
    f(i);
    lock.lock();
  }
  running_--;
  done_.wait(lock, [this] { return running_ == 0; });
  job_ = nullptr;
}

}  // namespace guestwright
