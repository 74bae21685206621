// AES over disk sectors with OpenSSL's EVP interface, which Node exports: nothing more to link.
#include "aes.h"

#include <openssl/evp.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <memory>

#include "pool.h"

namespace guestwright {
namespace {

using Context = std::unique_ptr<EVP_CIPHER_CTX, decltype(&EVP_CIPHER_CTX_free)>;
Context context() { return {EVP_CIPHER_CTX_new(), EVP_CIPHER_CTX_free}; }

constexpr size_t SHARE = 256 * 1024;  // bytes for one thread: below this, waking another costs more than it saves

void littleEndian(uint64_t v, uint8_t (&iv)[16]) {
  memset(iv, 0, sizeof iv);
  for (int i = 0; i < 8; i++) iv[i] = static_cast<uint8_t>(v >> (8 * i));
}

// Splits the sectors over the pool; each share gets a context of its own.
template <typename F>
bool overSectors(std::span<uint8_t> data, size_t sectorSize, uint64_t firstSector, uint64_t step, F share) {
  size_t sectors = data.size() / sectorSize;
  size_t each = std::max<size_t>(1, SHARE / sectorSize);
  std::atomic<bool> ok = true;
  Pool::shared().run((sectors + each - 1) / each, [&](size_t i) {
    size_t from = i * each, to = std::min(sectors, from + each);
    if (!share(data.subspan(from * sectorSize, (to - from) * sectorSize), firstSector + from * step)) ok = false;
  });
  return ok;
}

}  // namespace

bool aesXts(bool encrypt, std::span<const uint8_t> key, std::span<uint8_t> data, size_t sectorSize, uint64_t firstSector, uint64_t step) {
  const EVP_CIPHER *cipher = key.size() == 32 ? EVP_aes_128_xts() : key.size() == 64 ? EVP_aes_256_xts() : nullptr;
  if (cipher == nullptr) return false;
  return overSectors(data, sectorSize, firstSector, step, [&](std::span<uint8_t> part, uint64_t sector) {
    auto c = context();
    if (!c || EVP_CipherInit_ex(c.get(), cipher, nullptr, key.data(), nullptr, encrypt ? 1 : 0) != 1) return false;
    uint8_t iv[16];
    for (size_t at = 0; at < part.size(); at += sectorSize, sector += step) {
      littleEndian(sector, iv);
      int n = 0;
      if (EVP_CipherInit_ex(c.get(), nullptr, nullptr, nullptr, iv, -1) != 1) return false;
      if (EVP_CipherUpdate(c.get(), part.data() + at, &n, part.data() + at, static_cast<int>(sectorSize)) != 1) return false;
    }
    return true;
  });
}

bool aesCbc(bool encrypt, std::span<const uint8_t> key, std::span<const uint8_t> ivKey, Iv kind, std::span<uint8_t> data, size_t sectorSize, uint64_t firstSector, uint64_t step) {
  auto ofSize = [](size_t n, const EVP_CIPHER *a, const EVP_CIPHER *b, const EVP_CIPHER *c) { return n == 16 ? a : n == 24 ? b : n == 32 ? c : nullptr; };
  const EVP_CIPHER *cipher = ofSize(key.size(), EVP_aes_128_cbc(), EVP_aes_192_cbc(), EVP_aes_256_cbc());
  const EVP_CIPHER *ecb = ofSize(ivKey.size(), EVP_aes_128_ecb(), EVP_aes_192_ecb(), EVP_aes_256_ecb());
  if (cipher == nullptr || (kind == Iv::essiv && ecb == nullptr)) return false;
  return overSectors(data, sectorSize, firstSector, step, [&](std::span<uint8_t> part, uint64_t sector) {
    auto c = context(), e = context();
    if (!c || !e || EVP_CipherInit_ex(c.get(), cipher, nullptr, key.data(), nullptr, encrypt ? 1 : 0) != 1) return false;
    if (kind == Iv::essiv && (EVP_EncryptInit_ex(e.get(), ecb, nullptr, ivKey.data(), nullptr) != 1)) return false;
    EVP_CIPHER_CTX_set_padding(c.get(), 0);
    EVP_CIPHER_CTX_set_padding(e.get(), 0);
    uint8_t iv[16];
    for (size_t at = 0; at < part.size(); at += sectorSize, sector += step) {
      littleEndian(sector, iv);
      int n = 0;
      if (kind == Iv::essiv && EVP_EncryptUpdate(e.get(), iv, &n, iv, 16) != 1) return false;
      if (EVP_CipherInit_ex(c.get(), nullptr, nullptr, nullptr, iv, -1) != 1) return false;
      EVP_CIPHER_CTX_set_padding(c.get(), 0);
      if (EVP_CipherUpdate(c.get(), part.data() + at, &n, part.data() + at, static_cast<int>(sectorSize)) != 1) return false;
    }
    return true;
  });
}

}  // namespace guestwright
