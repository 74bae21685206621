// The probe of /dev/kvm, recorded small guests and their tables.  lib/addon/kvm.ts is the typed face of this file.
#include <cstring>
#include <string>

#include "args.h"
#include "kvm/guest.h"
#include "kvm/probe.h"

namespace guestwright {
namespace {

using std::chrono::milliseconds;

milliseconds limitArg(const Napi::CallbackInfo &info, size_t i) {
  int64_t n = offsetArg(info, i);
  if (n < 1 || n > 60'000) throw Napi::RangeError::New(info.Env(), "the time limit must be 1 to 60000 milliseconds");
  return milliseconds(n);
}

kvm::Mode modeArg(const Napi::CallbackInfo &info, size_t i) {
  if (i < info.Length() && info[i].IsString()) {
    std::string name = info[i].As<Napi::String>();
    if (name == "real") return kvm::Mode::real;
    if (name == "protected") return kvm::Mode::protected32;
    if (name == "long") return kvm::Mode::long64;
  }
  throw Napi::TypeError::New(info.Env(), "the mode must be \"real\", \"protected\" or \"long\"");
}

// (limitMs)
Napi::Value probe(const Napi::CallbackInfo &info) {
  kvm::ProbeReport report = kvm::probe(limitArg(info, 0));
  Napi::Env env = info.Env();
  Napi::Object o = Napi::Object::New(env);
  o.Set("openError", Napi::Number::New(env, report.openError));
  o.Set("guestRate", Napi::Number::New(env, report.guestRate));
  o.Set("guestRateBelow", Napi::Number::New(env, report.guestRateBelow));
  o.Set("nativeRate", Napi::Number::New(env, report.nativeRate));
  o.Set("milliseconds", Napi::Number::New(env, report.milliseconds));
  Napi::Array steps = Napi::Array::New(env, report.steps.size());
  for (size_t i = 0; i < report.steps.size(); i++) {
    const kvm::ProbeStep &s = report.steps[i];
    Napi::Object step = Napi::Object::New(env);
    step.Set("name", s.name);
    step.Set("ok", Napi::Boolean::New(env, s.ok));
    step.Set("fact", s.fact);
    step.Set("errno", Napi::Number::New(env, s.error));
    step.Set("instruction", s.instruction);
    step.Set("registers", s.registers);
    steps.Set(static_cast<uint32_t>(i), step);
  }
  o.Set("steps", steps);
  return o;
}

// (mode, code, memorySize, answers, limitMs)
Napi::Value record(const Napi::CallbackInfo &info) {
  Napi::Env env = info.Env();
  auto code = bytesArg(info, 1);
  int64_t memorySize = offsetArg(info, 2);
  if (memorySize < 0x10000 || memorySize > 1 << 30 || memorySize % 4096 != 0) throw Napi::RangeError::New(env, "guest memory must be whole pages, 64 KiB to 1 GiB");
  kvm::RecordedGuest guest{modeArg(info, 0), {code.begin(), code.end()}, static_cast<size_t>(memorySize), {}};
  if (!info[3].IsArray()) throw Napi::TypeError::New(env, "the answers must be an array");
  Napi::Array answers = info[3].As<Napi::Array>();
  for (uint32_t i = 0; i < answers.Length(); i++) guest.answers.push_back(static_cast<uint64_t>(answers.Get(i).ToNumber().Int64Value()));
  kvm::Recording r;
  try {
    r = kvm::record(guest, limitArg(info, 4));
  } catch (const kvm::Failure &e) {
    throwErrno(env, e.error, e.fact.c_str());
  }
  Napi::Array accesses = Napi::Array::New(env, r.accesses.size());
  for (size_t i = 0; i < r.accesses.size(); i++) {
    const kvm::Access &a = r.accesses[i];
    Napi::Object x = Napi::Object::New(env);
    x.Set("kind", a.kind == kvm::ExitKind::io ? "io" : "mmio");
    x.Set("write", Napi::Boolean::New(env, a.write));
    x.Set("address", Napi::Number::New(env, static_cast<double>(a.address)));
    x.Set("size", Napi::Number::New(env, a.size));
    x.Set("value", Napi::Number::New(env, static_cast<double>(a.value)));
    accesses.Set(static_cast<uint32_t>(i), x);
  }
  Napi::Object o = Napi::Object::New(env);
  o.Set("accesses", accesses);
  o.Set("end", r.end);
  o.Set("registers", r.registers);
  return o;
}

// (size): the tables of a 64-bit guest in memory of that size; no KVM is needed.
Napi::Value tables(const Napi::CallbackInfo &info) {
  int64_t size = offsetArg(info, 0);
  if (size > 1 << 20) throw Napi::RangeError::New(info.Env(), "at most 1 MiB");
  auto buffer = Napi::Uint8Array::New(info.Env(), static_cast<size_t>(size));
  std::span<uint8_t> memory{buffer.Data(), buffer.ByteLength()};
  std::memset(memory.data(), 0, memory.size());
  try {
    kvm::writeGdt(memory);
    kvm::writePageTables(memory);
    kvm::writeIdt64(memory, kvm::CODE_ADDRESS, 16);
  } catch (const kvm::Failure &e) {
    throwErrno(info.Env(), e.error, e.fact.c_str());
  }
  return buffer;
}

Napi::Object init(Napi::Env env, Napi::Object exports) {
  auto add = [&](const char *name, Napi::Value (*f)(const Napi::CallbackInfo &)) { exports.Set(name, Napi::Function::New(env, f, name)); };
  add("probe", probe);
  add("record", record);
  add("tables", tables);
  return exports;
}

}  // namespace
}  // namespace guestwright

static Napi::Object Init(Napi::Env env, Napi::Object exports) { return guestwright::init(env, exports); }
NODE_API_MODULE(kvm, Init)
