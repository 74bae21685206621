#include "kvm/resource.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>

namespace guestwright::kvm {

void fail(std::string fact) { throw Failure{errno, std::move(fact)}; }

Fd::~Fd() {
  if (fd_ >= 0) ::close(fd_);
}

namespace {
std::span<uint8_t> map(size_t size, int flags, int fd, const char *fact) {
  void *at = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, flags, fd, 0);
  if (at == MAP_FAILED) fail(fact);
  return {static_cast<uint8_t *>(at), size};
}
}  // namespace

Mapping Mapping::anonymous(size_t size) {
  return Mapping(map(size, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, "mmap of guest memory"));
}
Mapping Mapping::shared(const Fd &fd, size_t size) { return Mapping(map(size, MAP_SHARED, fd.get(), "mmap of the vCPU's run structure")); }

Mapping::~Mapping() {
  if (!bytes_.empty()) ::munmap(bytes_.data(), bytes_.size());
}

}  // namespace guestwright::kvm
