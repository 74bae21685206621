#include "kvm/vm.h"

#include <sys/ioctl.h>

#include <cerrno>

namespace guestwright::kvm {

namespace {
// Three pages that KVM needs for itself on Intel processors that cannot run real mode directly; the usual place, under the BIOS.
constexpr unsigned long TSS_ADDRESS = 0xfffbd000;
}  // namespace

Vm::Vm(const System &system) {
  int fd;
  do fd = ::ioctl(system.fd().get(), KVM_CREATE_VM, 0);
  while (fd < 0 && errno == EINTR);
  fd_ = Fd(fd);
  if (fd < 0) fail("KVM_CREATE_VM");
  if (system.capability(KVM_CAP_SET_TSS_ADDR) > 0 && ::ioctl(fd, KVM_SET_TSS_ADDR, TSS_ADDRESS) < 0) fail("KVM_SET_TSS_ADDR");
}

std::span<uint8_t> Vm::addMemory(uint64_t address, size_t size) {
  if (size == 0 || size % 4096 != 0 || address % 4096 != 0 || address + size < address) throw Failure{EINVAL, "memory slot: address and size must be whole pages"};
  Mapping mapping = Mapping::anonymous(size);
  kvm_userspace_memory_region region{};
  region.slot = static_cast<uint32_t>(slots_.size());
  region.guest_phys_addr = address;
  region.memory_size = size;
  // The kernel takes the address as an integer; the mapping lives in slots_ until after the VM's descriptor is closed.
  region.userspace_addr = reinterpret_cast<uintptr_t>(mapping.bytes().data());
  slots_.push_back({address, std::move(mapping)});
  if (::ioctl(fd_.get(), KVM_SET_USER_MEMORY_REGION, &region) < 0) {
    int error = errno;
    slots_.pop_back();
    throw Failure{error, "KVM_SET_USER_MEMORY_REGION"};
  }
  return slots_.back().mapping.bytes();
}

std::span<uint8_t> Vm::memory(uint64_t address, size_t size) const {
  for (const Slot &slot : slots_) {
    auto bytes = slot.mapping.bytes();
    if (address < slot.address || address - slot.address > bytes.size()) continue;
    size_t at = static_cast<size_t>(address - slot.address);
    if (size <= bytes.size() - at) return bytes.subspan(at, size);
  }
  return {};
}

}  // namespace guestwright::kvm
