#include "compress.h"

#include <zlib.h>
#ifdef HAVE_ZSTD
#include <zstd.h>
#endif

#include <memory>

namespace guestwright {
namespace {

// A deflate state for one (level, window); reset between blocks instead of being made anew.
struct Deflater {
  z_stream s{};
  int level = -100, windowBits = 0;
  bool open = false;
  ~Deflater() {
    if (open) deflateEnd(&s);
  }
  bool ready(int l, int w) {
    if (open && l == level && w == windowBits) return deflateReset(&s) == Z_OK;
    if (open) deflateEnd(&s);
    s = z_stream{};
    open = deflateInit2(&s, l, Z_DEFLATED, w, 9, Z_DEFAULT_STRATEGY) == Z_OK;
    level = l;
    windowBits = w;
    return open;
  }
};
struct Inflater {
  z_stream s{};
  int windowBits = 0;
  bool open = false;
  ~Inflater() {
    if (open) inflateEnd(&s);
  }
  bool ready(int w) {
    if (open && w == windowBits) return inflateReset(&s) == Z_OK;
    if (open) inflateEnd(&s);
    s = z_stream{};
    open = inflateInit2(&s, w) == Z_OK;
    windowBits = w;
    return open;
  }
};

}  // namespace

size_t deflateBlock(std::span<const uint8_t> in, std::span<uint8_t> out, int level, int windowBits) {
  thread_local Deflater d;
  if (!d.ready(level, windowBits)) return 0;
  d.s.next_in = const_cast<Bytef *>(in.data());  // zlib's interface is not const, its use is
  d.s.avail_in = static_cast<uInt>(in.size());
  d.s.next_out = out.data();
  d.s.avail_out = static_cast<uInt>(out.size());
  return deflate(&d.s, Z_FINISH) == Z_STREAM_END ? out.size() - d.s.avail_out : 0;
}

size_t inflateBlock(std::span<const uint8_t> in, std::span<uint8_t> out, int windowBits) {
  thread_local Inflater d;
  if (!d.ready(windowBits)) return 0;
  d.s.next_in = const_cast<Bytef *>(in.data());
  d.s.avail_in = static_cast<uInt>(in.size());
  d.s.next_out = out.data();
  d.s.avail_out = static_cast<uInt>(out.size());
  int r = inflate(&d.s, Z_FINISH);
  // Disk formats pad the stream to sectors, and some writers do not end it: a full block is what counts.
  return r == Z_STREAM_END || ((r == Z_BUF_ERROR || r == Z_OK) && d.s.avail_out == 0) ? out.size() - d.s.avail_out : 0;
}

#ifdef HAVE_ZSTD
bool zstdAvailable() { return true; }

size_t zstdBlock(std::span<const uint8_t> in, std::span<uint8_t> out, int level) {
  thread_local std::unique_ptr<ZSTD_CCtx, decltype(&ZSTD_freeCCtx)> c(ZSTD_createCCtx(), ZSTD_freeCCtx);
  if (!c) return 0;
  size_t n = ZSTD_compressCCtx(c.get(), out.data(), out.size(), in.data(), in.size(), level);
  return ZSTD_isError(n) ? 0 : n;
}

size_t unzstdBlock(std::span<const uint8_t> in, std::span<uint8_t> out) {
  thread_local std::unique_ptr<ZSTD_DCtx, decltype(&ZSTD_freeDCtx)> d(ZSTD_createDCtx(), ZSTD_freeDCtx);
  if (!d) return 0;
  // Frames may be followed by padding, which the one-call interface refuses: stream until the block is full.
  ZSTD_DCtx_reset(d.get(), ZSTD_reset_session_only);
  ZSTD_inBuffer i{in.data(), in.size(), 0};
  ZSTD_outBuffer o{out.data(), out.size(), 0};
  while (o.pos < o.size && i.pos < i.size) {
    size_t before = o.pos + i.pos;
    size_t r = ZSTD_decompressStream(d.get(), &o, &i);
    if (ZSTD_isError(r) || o.pos + i.pos == before) return 0;
    if (r == 0) break;
  }
  return o.pos;
}
#else
bool zstdAvailable() { return false; }
size_t zstdBlock(std::span<const uint8_t>, std::span<uint8_t>, int) { return 0; }
size_t unzstdBlock(std::span<const uint8_t>, std::span<uint8_t>) { return 0; }
#endif

}  // namespace guestwright
