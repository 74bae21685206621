// Owners of file descriptors and mappings, and the one error type of this library: an errno and what was being done.
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>

namespace guestwright::kvm {

struct Failure {
  int error;         // errno
  std::string fact;  // the call that failed, with what the caller needs to tell it apart
};
// Throws the current errno.
[[noreturn]] void fail(std::string fact);

class Fd {
 public:
  Fd() = default;
  explicit Fd(int fd) : fd_(fd) {}
  Fd(Fd &&other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Fd &operator=(Fd &&other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~Fd();
  int get() const { return fd_; }

 private:
  int fd_ = -1;
};

class Mapping {
 public:
  Mapping() = default;
  // Private anonymous memory, zeroed, not reserved: pages appear when they are touched.
  static Mapping anonymous(size_t size);
  static Mapping shared(const Fd &fd, size_t size);
  Mapping(Mapping &&other) noexcept : bytes_(std::exchange(other.bytes_, {})) {}
  Mapping &operator=(Mapping &&other) noexcept {
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  ~Mapping();
  std::span<uint8_t> bytes() const { return bytes_; }

 private:
  explicit Mapping(std::span<uint8_t> bytes) : bytes_(bytes) {}
  std::span<uint8_t> bytes_;
};

}  // namespace guestwright::kvm
