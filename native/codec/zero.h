#pragma once
#include <cstddef>
#include <cstdint>

namespace guestwright {
// True when all bytes are zero.
bool isZero(const uint8_t *data, size_t length);
}  // namespace guestwright
