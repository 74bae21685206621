// A small guest of one vCPU: some low memory, its tables, and code at CODE_ADDRESS.
#pragma once
#include <chrono>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "kvm/limit.h"
#include "kvm/vcpu.h"

namespace guestwright::kvm {

class SmallGuest {
 public:
  // `memorySize` is at least what the code and the tables need, in whole pages.
  SmallGuest(const System &system, Mode mode, std::span<const uint8_t> code, uint64_t entry, size_t memorySize);
  Vcpu &vcpu() { return vcpu_; }
  // The guest's memory from address 0.
  std::span<uint8_t> memory() const { return memory_; }

 private:
  Vm vm_;
  std::span<uint8_t> memory_;
  Vcpu vcpu_;
};

// What a recorded guest did at one port or address.
struct Access {
  ExitKind kind;  // io or mmio
  bool write;
  uint64_t address;
  unsigned size;
  uint64_t value;
};

struct Recording {
  std::vector<Access> accesses;
  // "halt", "shutdown", "time limit", "too many exits", or the exit's name where the guest could not go on.
  std::string end;
  std::string registers;
};

struct RecordedGuest {
  Mode mode;
  std::vector<uint8_t> code;
  size_t memorySize;
  // Answers to the guest's reads, in order; 0 when they are used up.
  std::vector<uint64_t> answers;
};

// Runs a guest until it halts or fails, and says what it did.
Recording record(const RecordedGuest &guest, std::chrono::milliseconds limit);

}  // namespace guestwright::kvm
