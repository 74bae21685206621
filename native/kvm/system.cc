#include "kvm/system.h"

#include <fcntl.h>
#include <sys/ioctl.h>

#include <algorithm>
#include <cerrno>

#include "kvm/cpuid-table.h"

namespace guestwright::kvm {

System::System(const char *path) : fd_(::open(path, O_RDWR | O_CLOEXEC)) {
  if (fd_.get() < 0) fail(std::string("open ") + path);
  int version = ::ioctl(fd_.get(), KVM_GET_API_VERSION, 0);
  if (version < 0) fail("KVM_GET_API_VERSION");
  if (version != KVM_API_VERSION) throw Failure{ENOSYS, "KVM_GET_API_VERSION: version " + std::to_string(version) + ", expected " + std::to_string(KVM_API_VERSION)};
  int size = ::ioctl(fd_.get(), KVM_GET_VCPU_MMAP_SIZE, 0);
  if (size < 0) fail("KVM_GET_VCPU_MMAP_SIZE");
  if (static_cast<size_t>(size) < sizeof(kvm_run)) throw Failure{EPROTO, "KVM_GET_VCPU_MMAP_SIZE: " + std::to_string(size) + " bytes, expected at least " + std::to_string(sizeof(kvm_run))};
  runSize_ = static_cast<size_t>(size);
}

int System::capability(int number) const { return std::max(0, ::ioctl(fd_.get(), KVM_CHECK_EXTENSION, number)); }

std::vector<kvm_cpuid_entry2> System::supportedCpuid() const {
  // The kernel does not say how many there are: it answers E2BIG until the table is large enough (at most 256 today).
  for (size_t room = 128; room <= 4096; room *= 2) {
    CpuidTable table(room);
    if (::ioctl(fd_.get(), GET_SUPPORTED_CPUID, table.data()) == 0) return table.leaves();
    if (errno != E2BIG) fail("KVM_GET_SUPPORTED_CPUID");
  }
  throw Failure{E2BIG, "KVM_GET_SUPPORTED_CPUID"};
}

}  // namespace guestwright::kvm
