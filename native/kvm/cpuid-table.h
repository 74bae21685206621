// The kernel's variable-length CPUID table.  <linux/kvm.h> declares its flexible array through an empty struct, which takes a byte
// in C++: there sizeof(kvm_cpuid2) is 12, not 8, and with it the offset of the entries and both ioctl numbers are wrong.
#pragma once
#include <linux/kvm.h>
#include <sys/ioctl.h>

#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

namespace guestwright::kvm {

struct CpuidHeader {
  uint32_t count, padding;
};
static_assert(sizeof(CpuidHeader) == 8 && sizeof(kvm_cpuid_entry2) == 40);
constexpr unsigned long GET_SUPPORTED_CPUID = _IOWR(KVMIO, 0x05, CpuidHeader);
constexpr unsigned long SET_CPUID2 = _IOW(KVMIO, 0x90, CpuidHeader);

class CpuidTable {
 public:
  explicit CpuidTable(size_t room) : bytes_(sizeof(CpuidHeader) + room * sizeof(kvm_cpuid_entry2)) { setCount(room); }
  explicit CpuidTable(std::span<const kvm_cpuid_entry2> leaves) : CpuidTable(leaves.size()) {
    if (!leaves.empty()) std::memcpy(bytes_.data() + sizeof(CpuidHeader), leaves.data(), leaves.size_bytes());
  }
  void *data() { return bytes_.data(); }
  std::vector<kvm_cpuid_entry2> leaves() const {
    CpuidHeader header;
    std::memcpy(&header, bytes_.data(), sizeof header);
    size_t room = (bytes_.size() - sizeof header) / sizeof(kvm_cpuid_entry2);
    std::vector<kvm_cpuid_entry2> all(header.count < room ? header.count : room);
    if (!all.empty()) std::memcpy(all.data(), bytes_.data() + sizeof header, all.size() * sizeof(kvm_cpuid_entry2));
    return all;
  }

 private:
  void setCount(size_t count) {
    CpuidHeader header{static_cast<uint32_t>(count), 0};
    std::memcpy(bytes_.data(), &header, sizeof header);
  }
  std::vector<uint8_t> bytes_;
};

}  // namespace guestwright::kvm
