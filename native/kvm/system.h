// /dev/kvm itself: what this kernel's KVM is and can do.
#pragma once
#include <linux/kvm.h>

#include <vector>

#include "kvm/resource.h"

namespace guestwright::kvm {

class System {
 public:
  // Opens the device and checks the API version (12 since 2007; anything else is refused).
  explicit System(const char *path = "/dev/kvm");
  const Fd &fd() const { return fd_; }
  // 0 where the capability is not there.
  int capability(int number) const;
  size_t runSize() const { return runSize_; }
  // All leaves that KVM can offer to a guest on this host.
  std::vector<kvm_cpuid_entry2> supportedCpuid() const;

 private:
  Fd fd_;
  size_t runSize_ = 0;
};

}  // namespace guestwright::kvm
