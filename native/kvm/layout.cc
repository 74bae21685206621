#include "kvm/layout.h"

#include <cerrno>
#include <cstring>

#include "kvm/resource.h"

namespace guestwright::kvm {

namespace {
void put(std::span<uint8_t> memory, uint64_t at, uint64_t value) {
  if (at > memory.size() || memory.size() - at < 8) throw Failure{ENOSPC, "guest memory is too small for its tables"};
  std::memcpy(memory.data() + at, &value, 8);
}
constexpr uint64_t PRESENT = 1, WRITABLE = 2, LARGE = 1 << 7;
constexpr uint64_t PAGE_2M = 1 << 21;
}  // namespace

uint64_t segmentDescriptor(uint32_t base, uint32_t limit, uint8_t access, uint8_t flags) {
  return (limit & 0xffffull) | (base & 0xffffffull) << 16 | static_cast<uint64_t>(access) << 40 | (limit >> 16 & 0xfull) << 48 | (flags & 0xfull) << 52 | (base >> 24 & 0xffull) << 56;
}

void writeGdt(std::span<uint8_t> memory) {
  put(memory, GDT_ADDRESS, 0);
  put(memory, GDT_ADDRESS + CODE64_SELECTOR, segmentDescriptor(0, 0xfffff, 0x9b, 0xa));
  put(memory, GDT_ADDRESS + DATA_SELECTOR, segmentDescriptor(0, 0xfffff, 0x93, 0xc));
  put(memory, GDT_ADDRESS + CODE32_SELECTOR, segmentDescriptor(0, 0xfffff, 0x9b, 0xc));
}

void writePageTables(std::span<uint8_t> memory) {
  constexpr uint64_t PDPT = PAGE_TABLES + 0x1000, DIRECTORY = PAGE_TABLES + 0x2000;
  put(memory, PAGE_TABLES, PDPT | PRESENT | WRITABLE);
  put(memory, PDPT, DIRECTORY | PRESENT | WRITABLE);
  for (uint64_t i = 0; i < 512; i++) put(memory, DIRECTORY + i * 8, i * PAGE_2M | PRESENT | WRITABLE | LARGE);
}

void writeIdt64(std::span<uint8_t> memory, uint64_t handlers, unsigned stride) {
  for (unsigned v = 0; v < EXCEPTIONS; v++) {
    uint64_t to = handlers + static_cast<uint64_t>(v) * stride;
    // Present, DPL 0, 64-bit interrupt gate (type 14), no IST.
    put(memory, IDT_ADDRESS + v * 16, (to & 0xffff) | static_cast<uint64_t>(CODE64_SELECTOR) << 16 | 0x8eull << 40 | (to >> 16 & 0xffff) << 48);
    put(memory, IDT_ADDRESS + v * 16 + 8, to >> 32);
  }
}

}  // namespace guestwright::kvm
