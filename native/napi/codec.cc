// Ciphers and compressors over many blocks at once, on all cores.  lib/addon/codec.ts is the typed face of this file.
#include <atomic>
#include <string>

#include "args.h"
#include "codec/aes.h"
#include "codec/compress.h"
#include "codec/pool.h"

namespace guestwright {
namespace {

size_t sectorSizeArg(const Napi::CallbackInfo &info, size_t i, std::span<uint8_t> data) {
  int64_t n = offsetArg(info, i);
  if (n < 16 || n > (1 << 20) || n % 16 != 0 || data.size() % static_cast<size_t>(n) != 0)
    throw Napi::RangeError::New(info.Env(), "data must be whole sectors of 16 bytes to 1 MiB");
  return static_cast<size_t>(n);
}

uint64_t stepArg(const Napi::CallbackInfo &info, size_t i) { return info.Length() > i && info[i].IsNumber() ? static_cast<uint64_t>(offsetArg(info, i)) : 1; }

// (encrypt, key, data, sectorSize, firstSector, step = 1)
Napi::Value xts(const Napi::CallbackInfo &info) {
  auto data = bytesArg(info, 2);
  if (!aesXts(info[0].ToBoolean(), bytesArg(info, 1), data, sectorSizeArg(info, 3, data), static_cast<uint64_t>(offsetArg(info, 4)), stepArg(info, 5)))
    throw Napi::Error::New(info.Env(), "AES-XTS: the key was refused");
  return info.Env().Undefined();
}

// (encrypt, key, ivKey or empty for plain64, data, sectorSize, firstSector, step = 1)
Napi::Value cbc(const Napi::CallbackInfo &info) {
  auto ivKey = bytesArg(info, 2);
  auto data = bytesArg(info, 3);
  if (!aesCbc(info[0].ToBoolean(), bytesArg(info, 1), ivKey, ivKey.empty() ? Iv::plain64 : Iv::essiv, data, sectorSizeArg(info, 4, data), static_cast<uint64_t>(offsetArg(info, 5)), stepArg(info, 6)))
    throw Napi::Error::New(info.Env(), "AES-CBC: the key was refused");
  return info.Env().Undefined();
}

enum class Method { deflate, zlib, zstd };
Method methodArg(const Napi::CallbackInfo &info, size_t i) {
  std::string name = info[i].As<Napi::String>();
  if (name == "deflate") return Method::deflate;
  if (name == "zlib") return Method::zlib;
  if (name == "zstd" && zstdAvailable()) return Method::zstd;
  throw Napi::TypeError::New(info.Env(), "unknown compression method: " + name);
}

std::span<double> numbersArg(const Napi::CallbackInfo &info, size_t i) {
  if (i >= info.Length() || !info[i].IsTypedArray() || info[i].As<Napi::TypedArray>().TypedArrayType() != napi_float64_array)
    throw Napi::TypeError::New(info.Env(), "argument " + std::to_string(i) + " must be a Float64Array");
  auto a = info[i].As<Napi::Float64Array>();
  return {a.Data(), a.ElementLength()};
}

// A part of a buffer, checked.
std::span<uint8_t> part(Napi::Env env, std::span<uint8_t> whole, double offset, double length) {
  if (!(offset >= 0) || !(length >= 0) || offset + length > static_cast<double>(whole.size())) throw Napi::RangeError::New(env, "a block leaves its buffer");
  return whole.subspan(static_cast<size_t>(offset), static_cast<size_t>(length));
}

// (method, level, in, out, plan): the plan has five numbers a block: in offset, in length, out offset, out room, and the
// result: bytes written, 0 where it does not fit.
Napi::Value compress(const Napi::CallbackInfo &info) {
  Method method = methodArg(info, 0);
  int level = info[1].As<Napi::Number>().Int32Value();
  auto in = bytesArg(info, 2), out = bytesArg(info, 3);
  auto plan = numbersArg(info, 4);
  size_t n = plan.size() / 5;
  for (size_t i = 0; i < n; i++) {
    part(info.Env(), in, plan[i * 5], plan[i * 5 + 1]);
    part(info.Env(), out, plan[i * 5 + 2], plan[i * 5 + 3]);
  }
  Pool::shared().run(n, [&](size_t i) {
    double *p = &plan[i * 5];
    auto from = in.subspan(static_cast<size_t>(p[0]), static_cast<size_t>(p[1]));
    auto to = out.subspan(static_cast<size_t>(p[2]), static_cast<size_t>(p[3]));
    size_t size = method == Method::zstd ? zstdBlock(from, to, level) : deflateBlock(from, to, level, method == Method::zlib ? 15 : -12);
    p[4] = static_cast<double>(size);
  });
  return info.Env().Undefined();
}

// The same plan; out room is the exact size wanted, the result 0 marks damaged data.
Napi::Value decompress(const Napi::CallbackInfo &info) {
  Method method = methodArg(info, 0);
  auto in = bytesArg(info, 1), out = bytesArg(info, 2);
  auto plan = numbersArg(info, 3);
  size_t n = plan.size() / 5;
  for (size_t i = 0; i < n; i++) {
    part(info.Env(), in, plan[i * 5], plan[i * 5 + 1]);
    part(info.Env(), out, plan[i * 5 + 2], plan[i * 5 + 3]);
  }
  Pool::shared().run(n, [&](size_t i) {
    double *p = &plan[i * 5];
    auto from = in.subspan(static_cast<size_t>(p[0]), static_cast<size_t>(p[1]));
    auto to = out.subspan(static_cast<size_t>(p[2]), static_cast<size_t>(p[3]));
    p[4] = static_cast<double>(method == Method::zstd ? unzstdBlock(from, to) : inflateBlock(from, to, method == Method::zlib ? 15 : -15));
  });
  return info.Env().Undefined();
}

Napi::Object init(Napi::Env env, Napi::Object exports) {
  auto add = [&](const char *name, Napi::Value (*f)(const Napi::CallbackInfo &)) { exports.Set(name, Napi::Function::New(env, f, name)); };
  add("xts", xts);
  add("cbc", cbc);
  add("compress", compress);
  add("decompress", decompress);
  exports.Set("zstd", Napi::Boolean::New(env, zstdAvailable()));
  exports.Set("threads", Napi::Number::New(env, static_cast<double>(Pool::shared().size())));
  return exports;
}

}  // namespace
}  // namespace guestwright

static Napi::Object Init(Napi::Env env, Napi::Object exports) { return guestwright::init(env, exports); }
NODE_API_MODULE(codec, Init)
