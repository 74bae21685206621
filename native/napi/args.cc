#include "args.h"

#include <uv.h>

#include <cmath>
#include <string>

namespace guestwright {

void throwErrno(Napi::Env env, int error, const char *syscall) {
  std::string message = std::string(uv_err_name(-error)) + ": " + uv_strerror(-error) + ", " + syscall;
  Napi::Error e = Napi::Error::New(env, message);
  e.Set("code", Napi::String::New(env, uv_err_name(-error)));
  e.Set("errno", Napi::Number::New(env, -error));
  e.Set("syscall", Napi::String::New(env, syscall));
  throw e;
}

int fdArg(const Napi::CallbackInfo &info, size_t i) {
  int64_t v = offsetArg(info, i);
  if (v > INT32_MAX) throw Napi::TypeError::New(info.Env(), "file descriptor is out of range");
  return static_cast<int>(v);
}

int64_t offsetArg(const Napi::CallbackInfo &info, size_t i) {
  if (i >= info.Length() || !info[i].IsNumber()) throw Napi::TypeError::New(info.Env(), "argument " + std::to_string(i) + " must be a number");
  double v = info[i].As<Napi::Number>().DoubleValue();
  if (!(v >= 0) || v > 9007199254740991.0 || std::floor(v) != v)
    throw Napi::TypeError::New(info.Env(), "argument " + std::to_string(i) + " must be a whole number from 0 to 2^53-1");
  return static_cast<int64_t>(v);
}

std::span<uint8_t> bytesArg(const Napi::CallbackInfo &info, size_t i) {
  if (i >= info.Length() || !info[i].IsTypedArray()) throw Napi::TypeError::New(info.Env(), "argument " + std::to_string(i) + " must be a Uint8Array");
  auto array = info[i].As<Napi::TypedArray>();
  if (array.TypedArrayType() != napi_uint8_array) throw Napi::TypeError::New(info.Env(), "argument " + std::to_string(i) + " must be a Uint8Array");
  auto bytes = array.As<Napi::Uint8Array>();
  return {bytes.Data(), bytes.ByteLength()};
}

}  // namespace guestwright
