#include "zero.h"

#include <cstring>

namespace guestwright {

bool isZero(const uint8_t *p, size_t n) {
  // Data that is not zero mostly shows it early; whole blocks are or-ed, which compilers turn into vector code.
  while (n >= 256) {
    uint64_t v[32];
    memcpy(v, p, sizeof v);
    uint64_t any = 0;
    for (uint64_t x : v) any |= x;
    if (any != 0) return false;
    p += 256;
    n -= 256;
  }
  uint8_t any = 0;
  for (size_t i = 0; i < n; i++) any |= p[i];
  return any == 0;
}

}  // namespace guestwright
