#pragma once
#include <cstddef>
#include <cstdint>
#include <span>

namespace guestwright {

// One block each; contexts are kept per thread.  0 means: does not fit into `out` (incompressible) or the data is damaged.

// Raw deflate with a window of 2^windowBits bytes, as qcow2 (12) and VMDK (zlib stream: 15, wrapped) want it.
size_t deflateBlock(std::span<const uint8_t> in, std::span<uint8_t> out, int level, int windowBits);
size_t inflateBlock(std::span<const uint8_t> in, std::span<uint8_t> out, int windowBits);

bool zstdAvailable();
size_t zstdBlock(std::span<const uint8_t> in, std::span<uint8_t> out, int level);
size_t unzstdBlock(std::span<const uint8_t> in, std::span<uint8_t> out);

}  // namespace guestwright
