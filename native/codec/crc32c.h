#pragma once
#include <cstddef>
#include <cstdint>

namespace guestwright {
// CRC-32C in raw register form: neither the initial value nor the result is inverted.
uint32_t crc32c(const uint8_t *data, size_t length, uint32_t crc);
}  // namespace guestwright
