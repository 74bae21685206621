// A few threads that share the work of one call: run(n, f) calls f(0) … f(n-1), in any order, and returns when all are done.
#pragma once
#include <condition_variable>
#include <cstddef>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace guestwright {

class Pool {
 public:
  // One pool a process, made at its first use: as many threads as cores, the caller being one of them.
  static Pool &shared();
  ~Pool();
  Pool(const Pool &) = delete;
  Pool &operator=(const Pool &) = delete;

  // `threads` bounds how many work at once; 0 means all.  f must not throw.
  void run(size_t n, const std::function<void(size_t)> &f, size_t threads = 0);
  size_t size() const { return workers_.size() + 1; }

 private:
  explicit Pool(size_t workers);
  void work();

  std::mutex mutex_;
  std::condition_variable wake_, done_;
  std::vector<std::thread> workers_;
  const std::function<void(size_t)> *job_ = nullptr;
  size_t next_ = 0, end_ = 0, running_ = 0, allowed_ = 0;
  bool stop_ = false;
  std::mutex callers_;  // one run at a time
};

}  // namespace guestwright
