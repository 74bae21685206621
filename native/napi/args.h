// Argument checks and error mapping shared by all bindings.  Only files in napi/ include napi.h.
#pragma once
#include <napi.h>

#include <cstdint>
#include <span>

namespace guestwright {

// Throws a JavaScript error that looks like Node's own system errors: code, errno, syscall.
[[noreturn]] void throwErrno(Napi::Env env, int error, const char *syscall);

int fdArg(const Napi::CallbackInfo &info, size_t i);
// An offset or length: a whole number from 0 to 2^53-1.
int64_t offsetArg(const Napi::CallbackInfo &info, size_t i);
// The bytes of a Uint8Array (or Buffer); valid during the call only.
std::span<uint8_t> bytesArg(const Napi::CallbackInfo &info, size_t i);

}  // namespace guestwright
