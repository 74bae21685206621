// Why a vCPU came back, as plain values: copied out of the shared run structure once.
#pragma once
#include <linux/kvm.h>

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace guestwright::kvm {

enum class ExitKind { io, mmio, halt, shutdown, failEntry, internalError, interrupted, other };

struct Exit {
  ExitKind kind;
  uint32_t reason = 0;  // KVM_EXIT_…
  // io, mmio
  bool write = false;
  uint64_t address = 0;  // port or guest-physical address
  unsigned size = 0;     // of one item
  unsigned count = 0;    // items: 1 unless it is a string instruction
  // What the guest wrote, or where its answer goes; in the run structure, valid until the next run.
  std::span<uint8_t> data = {};
  // failEntry: the processor's reason; internalError: KVM_INTERNAL_ERROR_…
  uint64_t detail = 0;
  // internalError "emulation": the instruction, where the kernel tells it.
  std::vector<uint8_t> instruction = {};

  // The item as a number (little-endian, first item).
  uint64_t value() const;
  void answer(uint64_t value) const;
};

// `run` is the mapped run structure, whole.
Exit decodeExit(std::span<uint8_t> run);
// "KVM_EXIT_IO" and so on; "KVM_EXIT_77" where we have no name.
std::string exitName(uint32_t reason);
// "emulation", "simultaneous exceptions", …
std::string suberrorName(uint64_t suberror);
std::string hexBytes(std::span<const uint8_t> bytes);

}  // namespace guestwright::kvm
