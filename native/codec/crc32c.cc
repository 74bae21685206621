#include "crc32c.h"

#include <array>
#include <cstring>

namespace guestwright {
namespace {

constexpr std::array<uint32_t, 256> makeTable() {
  std::array<uint32_t, 256> t{};
  for (uint32_t i = 0; i < 256; i++) {
    uint32_t c = i;
    for (int k = 0; k < 8; k++) c = c & 1 ? (c >> 1) ^ 0x82f63b78u : c >> 1;
    t[i] = c;
  }
  return t;
}
constexpr auto table = makeTable();

uint32_t portable(const uint8_t *p, size_t n, uint32_t crc) {
  for (size_t i = 0; i < n; i++) crc = (crc >> 8) ^ table[(crc ^ p[i]) & 255];
  return crc;
}

#if defined(__x86_64__)
__attribute__((target("sse4.2"))) uint32_t hardware(const uint8_t *p, size_t n, uint32_t crc) {
  uint64_t c = crc;
  while (n >= 8) {
    uint64_t v;
    memcpy(&v, p, 8);
    c = __builtin_ia32_crc32di(c, v);
    p += 8;
    n -= 8;
  }
  uint32_t r = static_cast<uint32_t>(c);
  while (n > 0) {
    r = __builtin_ia32_crc32qi(r, *p++);
    n--;
  }
  return r;
}
#endif

}  // namespace

uint32_t crc32c(const uint8_t *data, size_t length, uint32_t crc) {
#if defined(__x86_64__)
  static const bool fast = __builtin_cpu_supports("sse4.2");
  if (fast) return hardware(data, length, crc);
#endif
  return portable(data, length, crc);
}

}  // namespace guestwright
