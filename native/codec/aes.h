#pragma once
#include <cstddef>
#include <cstdint>
#include <span>

namespace guestwright {

enum class Iv { plain64, essiv };

// Encrypts or decrypts whole sectors in place.  XTS: key of 32 or 64 bytes.  CBC: key of 16, 24 or 32 bytes.
// The initialisation vector of the first sector is `firstSector` (little endian), each further one adds `step`; `essiv` encrypts that with `ivKey` (AES).
// Returns false when the library refuses the key.
bool aesXts(bool encrypt, std::span<const uint8_t> key, std::span<uint8_t> data, size_t sectorSize, uint64_t firstSector, uint64_t step);
bool aesCbc(bool encrypt, std::span<const uint8_t> key, std::span<const uint8_t> ivKey, Iv iv, std::span<uint8_t> data, size_t sectorSize, uint64_t firstSector, uint64_t step);

}  // namespace guestwright
