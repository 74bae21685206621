// Descriptor and page tables of a small guest, as bytes.  No KVM is needed for this: it is tested on plain memory.
#pragma once
#include <cstdint>
#include <span>

namespace guestwright::kvm {

enum class Mode { real, protected32, long64 };

// Where things are in a small guest's first 64 KiB.
constexpr uint64_t GDT_ADDRESS = 0x1000;
constexpr uint64_t IDT_ADDRESS = 0x1800;
constexpr uint64_t PAGE_TABLES = 0x2000;  // PML4, PDPT and one page directory
constexpr uint64_t STACK_TOP = 0x8000;    // grows down to 0x5000
constexpr uint64_t CODE_ADDRESS = 0x8000;
constexpr uint64_t TABLES_END = 0x5000;

// GDT: null, 64-bit code, flat data, flat 32-bit code.
constexpr uint16_t CODE64_SELECTOR = 0x08, DATA_SELECTOR = 0x10, CODE32_SELECTOR = 0x18;
constexpr uint16_t GDT_LIMIT = 4 * 8 - 1;
constexpr unsigned EXCEPTIONS = 32;
constexpr uint16_t IDT_LIMIT = EXCEPTIONS * 16 - 1;

// A code or data segment descriptor (SDM vol. 3, 3.4.5): `access` is P, DPL, S and type; `flags` is G, D/B, L, AVL.
uint64_t segmentDescriptor(uint32_t base, uint32_t limit, uint8_t access, uint8_t flags);

// All of these take guest memory from address 0 (at least TABLES_END bytes) and write at the addresses above.
void writeGdt(std::span<uint8_t> memory);
// Maps 1 GiB to itself in pages of 2 MiB.
void writePageTables(std::span<uint8_t> memory);
// 64-bit interrupt gates for the exceptions; the handler of vector v is at `handlers + v * stride`.
void writeIdt64(std::span<uint8_t> memory, uint64_t handlers, unsigned stride);

}  // namespace guestwright::kvm
