// The probe's guest: position-independent 64-bit code, one entry a step, and the timed loop that also runs natively.
#pragma once
#include <cstdint>
#include <span>

namespace guestwright::kvm::probe_guest {

// Ports the guest talks to, 32 bits at a time.
constexpr uint64_t PORT_RESULT = 0x500, PORT_COUNT = 0x504, PORT_FAULT = 0x508;
constexpr uint64_t DATA_ADDRESS = 0x10000;
constexpr size_t MEMORY_SIZE = 0x20000;
// Bytes that the loop walks over.
constexpr size_t LOOP_BYTES = 4096;
constexpr uint32_t STARTED = 0x600d, SSE2_RESULT = 82, CMPXCHG16B_RESULT = 0x64;

std::span<const uint8_t> code();
// Offsets of the entries in the code.
uint64_t started();
uint64_t sse2();
uint64_t cmpxchg16b();
uint64_t loop();
// The first of 32 exception handlers, and the distance between them.
uint64_t faultHandlers();
constexpr unsigned FAULT_STRIDE = 16;

// The guest's loop, called here: `buffer` has LOOP_BYTES; the result depends on every access.
uint32_t runLoop(uint64_t iterations, uint8_t *buffer);

}  // namespace guestwright::kvm::probe_guest
