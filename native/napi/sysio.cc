// System calls that Node does not offer: holes, locks, range copies, O_DIRECT, block-device ioctls, and CRC-32C.
// lib/addon/sysio.ts is the typed face of this file.
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/types.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <span>
#include <string>

#include "args.h"
#include "codec/crc32c.h"
#include "codec/pool.h"
#include "codec/zero.h"

namespace guestwright {
namespace {

Napi::Value pread(const Napi::CallbackInfo &info) {
  int fd = fdArg(info, 0);
  auto into = bytesArg(info, 1);
  int64_t offset = offsetArg(info, 2);
  size_t done = 0;
  while (done < into.size()) {
    ssize_t n = ::pread(fd, into.data() + done, into.size() - done, offset + static_cast<int64_t>(done));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) throwErrno(info.Env(), errno, "pread");
    if (n == 0) break;
    done += static_cast<size_t>(n);
  }
  return Napi::Number::New(info.Env(), static_cast<double>(done));
}

Napi::Value pwrite(const Napi::CallbackInfo &info) {
  int fd = fdArg(info, 0);
  auto from = bytesArg(info, 1);
  int64_t offset = offsetArg(info, 2);
  size_t done = 0;
  while (done < from.size()) {
    ssize_t n = ::pwrite(fd, from.data() + done, from.size() - done, offset + static_cast<int64_t>(done));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) throwErrno(info.Env(), errno, "pwrite");
    done += static_cast<size_t>(n);
  }
  return Napi::Number::New(info.Env(), static_cast<double>(done));
}

Napi::Value seek(const Napi::CallbackInfo &info, int whence, const char *name) {
  off_t r = ::lseek(fdArg(info, 0), offsetArg(info, 1), whence);
  if (r < 0 && errno != ENXIO) {
    // Block devices and some filesystems know no holes: all is data.
    if (errno == EINVAL || errno == ENOTSUP || errno == EOPNOTSUPP) return whence == SEEK_DATA ? info[1] : Napi::Number::New(info.Env(), -1);
    throwErrno(info.Env(), errno, name);
  }
  return Napi::Number::New(info.Env(), static_cast<double>(r));
}
Napi::Value seekData(const Napi::CallbackInfo &info) { return seek(info, SEEK_DATA, "lseek(SEEK_DATA)"); }
Napi::Value seekHole(const Napi::CallbackInfo &info) { return seek(info, SEEK_HOLE, "lseek(SEEK_HOLE)"); }

Napi::Value fallocate(const Napi::CallbackInfo &info) {
  int fd = fdArg(info, 0);
  int mode = static_cast<int>(offsetArg(info, 1));
  int64_t offset = offsetArg(info, 2), length = offsetArg(info, 3);
  if (length == 0) return Napi::Boolean::New(info.Env(), true);
  for (;;) {
    if (::fallocate(fd, mode, offset, length) == 0) return Napi::Boolean::New(info.Env(), true);
    if (errno == EINTR) continue;
    if (errno == EOPNOTSUPP || errno == ENOSYS || errno == ENODEV || errno == EINVAL) return Napi::Boolean::New(info.Env(), false);
    throwErrno(info.Env(), errno, "fallocate");
  }
}

Napi::Value copyRange(const Napi::CallbackInfo &info) {
  off64_t in = offsetArg(info, 1), out = offsetArg(info, 3);
  int64_t left = offsetArg(info, 4), done = 0;
  int inFd = fdArg(info, 0), outFd = fdArg(info, 2);
  while (left > 0) {
    ssize_t n = ::copy_file_range(inFd, &in, outFd, &out, static_cast<size_t>(left), 0);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) {
      if (errno == ENOSPC || errno == EIO || errno == EFBIG || errno == EDQUOT) throwErrno(info.Env(), errno, "copy_file_range");
      break;  // not supported between these files: the caller copies by hand
    }
    if (n == 0) break;
    done += n;
    left -= n;
  }
  return Napi::Number::New(info.Env(), static_cast<double>(done));
}

Napi::Value clone(const Napi::CallbackInfo &info) { return Napi::Boolean::New(info.Env(), ::ioctl(fdArg(info, 1), FICLONE, fdArg(info, 0)) == 0); }

Napi::Value fdatasync(const Napi::CallbackInfo &info) {
  if (::fdatasync(fdArg(info, 0)) != 0) throwErrno(info.Env(), errno, "fdatasync");
  return info.Env().Undefined();
}

// (fd, kind 0 read / 1 write / 2 unlock, start, length, test) → 0 taken, else the pid of a holder, -1 unknown.
Napi::Value lock(const Napi::CallbackInfo &info) {
  int fd = fdArg(info, 0);
  int64_t kind = offsetArg(info, 1);
  struct flock l {};
  l.l_type = static_cast<short>(kind == 0 ? F_RDLCK : kind == 1 ? F_WRLCK : F_UNLCK);
  l.l_whence = SEEK_SET;
  l.l_start = offsetArg(info, 2);
  l.l_len = offsetArg(info, 3);
  bool test = info.Length() > 4 && info[4].ToBoolean().Value();
  auto number = [&](double v) { return Napi::Number::New(info.Env(), v); };
  if (!test) {
    if (::fcntl(fd, F_OFD_SETLK, &l) == 0) return number(0);
    if (errno == EINVAL || errno == ENOLCK || errno == ENOSYS) return number(0);  // no locks on this filesystem
    if (errno != EAGAIN && errno != EACCES) throwErrno(info.Env(), errno, "fcntl(F_OFD_SETLK)");
  }
  // F_OFD_GETLK wants no pid on entry and gives -1 for OFD holders; /proc/locks may know more, the caller looks there.
  struct flock q = l;
  q.l_pid = 0;
  if (::fcntl(fd, F_OFD_GETLK, &q) != 0) return number(test ? 0 : -1);
  if (q.l_type == F_UNLCK) return number(test ? 0 : -1);
  return number(q.l_pid > 0 ? q.l_pid : -1);
}

Napi::Value blockDeviceSize(const Napi::CallbackInfo &info) {
  uint64_t size = 0;
  if (::ioctl(fdArg(info, 0), BLKGETSIZE64, &size) != 0) throwErrno(info.Env(), errno, "ioctl(BLKGETSIZE64)");
  return Napi::Number::New(info.Env(), static_cast<double>(size));
}
Napi::Value blockDeviceSectorSize(const Napi::CallbackInfo &info) {
  int size = 0;
  if (::ioctl(fdArg(info, 0), BLKSSZGET, &size) != 0) throwErrno(info.Env(), errno, "ioctl(BLKSSZGET)");
  return Napi::Number::New(info.Env(), size);
}

Napi::Value openDirect(const Napi::CallbackInfo &info) {
  std::string path = info[0].As<Napi::String>();
  bool writable = info.Length() > 1 && info[1].ToBoolean().Value();
  int fd = ::open(path.c_str(), (writable ? O_RDWR : O_RDONLY) | O_DIRECT | O_CLOEXEC);
  if (fd < 0 && errno == EINVAL) return info.Env().Undefined();  // tmpfs and others have no O_DIRECT
  if (fd < 0) throwErrno(info.Env(), errno, "open");
  return Napi::Number::New(info.Env(), fd);
}

Napi::Value allocAligned(const Napi::CallbackInfo &info) {
  int64_t size = offsetArg(info, 0);
  if (size > (int64_t{1} << 30)) throw Napi::RangeError::New(info.Env(), "buffer is larger than 1 GiB");
  void *p = nullptr;
  if (::posix_memalign(&p, 4096, static_cast<size_t>(size > 0 ? size : 1)) != 0) throwErrno(info.Env(), ENOMEM, "posix_memalign");
  auto buffer = Napi::ArrayBuffer::New(info.Env(), p, static_cast<size_t>(size), [](Napi::Env, void *data) { ::free(data); });
  return Napi::Uint8Array::New(info.Env(), static_cast<size_t>(size), buffer, 0);
}

// Files of a guest written to the host: what Node's fs has no call for.  Paths are bytes, since names need not be UTF-8.
std::string pathArg(const Napi::CallbackInfo &info, size_t i) {
  auto b = bytesArg(info, i);
  std::string path(reinterpret_cast<const char *>(b.data()), b.size());  // bytes to chars: same size, no alignment
  if (path.find('\0') != std::string::npos) throw Napi::TypeError::New(info.Env(), "path holds a NUL byte");
  return path;
}

// (path, mode with file type, major, minor)
Napi::Value makeNode(const Napi::CallbackInfo &info) {
  if (::mknod(pathArg(info, 0).c_str(), static_cast<mode_t>(offsetArg(info, 1)), makedev(offsetArg(info, 2), offsetArg(info, 3))) != 0) throwErrno(info.Env(), errno, "mknod");
  return info.Env().Undefined();
}

// (path, atime seconds, nanoseconds, mtime seconds, nanoseconds): of the name itself, links are not followed.  Seconds may be negative.
Napi::Value setTimes(const Napi::CallbackInfo &info) {
  auto seconds = [&](size_t i) { return static_cast<time_t>(info[i].As<Napi::Number>().Int64Value()); };
  struct timespec t[2] = {{seconds(1), static_cast<long>(offsetArg(info, 2))}, {seconds(3), static_cast<long>(offsetArg(info, 4))}};
  if (::utimensat(AT_FDCWD, pathArg(info, 0).c_str(), t, AT_SYMLINK_NOFOLLOW) != 0) throwErrno(info.Env(), errno, "utimensat");
  return info.Env().Undefined();
}

// (path, name, value): false where the filesystem or our rights do not allow it.
Napi::Value setXattr(const Napi::CallbackInfo &info) {
  std::string name = info[1].As<Napi::String>();
  auto value = bytesArg(info, 2);
  if (::lsetxattr(pathArg(info, 0).c_str(), name.c_str(), value.data(), value.size(), 0) == 0) return Napi::Boolean::New(info.Env(), true);
  if (errno == EOPNOTSUPP || errno == EPERM || errno == EACCES || errno == EINVAL) return Napi::Boolean::New(info.Env(), false);
  throwErrno(info.Env(), errno, "lsetxattr");
}

Napi::Value zero(const Napi::CallbackInfo &info) {
  auto b = bytesArg(info, 0);
  return Napi::Boolean::New(info.Env(), isZero(b.data(), b.size()));
}

Napi::Value crc(const Napi::CallbackInfo &info) {
  auto b = bytesArg(info, 0);
  return Napi::Number::New(info.Env(), crc32c(b.data(), b.size(), static_cast<uint32_t>(offsetArg(info, 1))));
}

// (ops, buffer, zeroMap, granularity): moves many pieces at once, on all cores.  Six numbers an op: kind (0 read, 1 write), fd,
// file offset, length, buffer offset, and the result (0, or the errno).  What is read is looked at: zeroMap[k] becomes 1 when
// the k-th `granularity` bytes of the buffer that the op covers are all zero (ops start at multiples of it).  A read past
// the end of the file gives zeroes.
Napi::Value transfer(const Napi::CallbackInfo &info) {
  if (!info[0].IsTypedArray() || info[0].As<Napi::TypedArray>().TypedArrayType() != napi_float64_array) throw Napi::TypeError::New(info.Env(), "ops must be a Float64Array");
  auto array = info[0].As<Napi::Float64Array>();
  std::span<double> ops{array.Data(), array.ElementLength()};
  auto buffer = bytesArg(info, 1), zeroMap = bytesArg(info, 2);
  auto granularity = static_cast<size_t>(offsetArg(info, 3));
  size_t n = ops.size() / 6;
  for (size_t i = 0; i < n; i++) {
    const double *o = &ops[i * 6];
    if (!(o[2] >= 0) || !(o[3] >= 0) || !(o[4] >= 0) || o[2] > 9e15 || o[4] + o[3] > static_cast<double>(buffer.size())) throw Napi::RangeError::New(info.Env(), "a piece leaves the buffer");
    if (o[0] == 0 && (granularity == 0 || (o[4] + o[3] + static_cast<double>(granularity) - 1) / static_cast<double>(granularity) > static_cast<double>(zeroMap.size()) + 1))
      throw Napi::RangeError::New(info.Env(), "the zero map is too small");
  }
  Pool::shared().run(n, [&](size_t i) {
    double *o = &ops[i * 6];
    int fd = static_cast<int>(o[1]);
    auto offset = static_cast<off_t>(o[2]);
    auto length = static_cast<size_t>(o[3]), at = static_cast<size_t>(o[4]);
    uint8_t *p = buffer.data() + at;
    o[5] = 0;
    for (size_t done = 0; done < length;) {
      ssize_t r = o[0] == 0 ? ::pread(fd, p + done, length - done, offset + static_cast<off_t>(done)) : ::pwrite(fd, p + done, length - done, offset + static_cast<off_t>(done));
      if (r < 0 && errno == EINTR) continue;
      if (r < 0) {
        o[5] = errno;
        return;
      }
      if (r == 0) {
        memset(p + done, 0, length - done);
        break;
      }
      done += static_cast<size_t>(r);
    }
    if (o[0] != 0) return;
    for (size_t k = 0; k < length; k += granularity) {
      size_t index = (at + k) / granularity;
      if (index < zeroMap.size()) zeroMap[index] = isZero(p + k, length - k < granularity ? length - k : granularity);
    }
  });
  return info.Env().Undefined();
}

Napi::Object init(Napi::Env env, Napi::Object exports) {
  auto add = [&](const char *name, Napi::Value (*f)(const Napi::CallbackInfo &)) { exports.Set(name, Napi::Function::New(env, f, name)); };
  add("pread", pread);
  add("pwrite", pwrite);
  add("seekData", seekData);
  add("seekHole", seekHole);
  add("fallocate", fallocate);
  add("copyRange", copyRange);
  add("clone", clone);
  add("fdatasync", fdatasync);
  add("lock", lock);
  add("blockDeviceSize", blockDeviceSize);
  add("blockDeviceSectorSize", blockDeviceSectorSize);
  add("openDirect", openDirect);
  add("allocAligned", allocAligned);
  add("makeNode", makeNode);
  add("setTimes", setTimes);
  add("setXattr", setXattr);
  add("transfer", transfer);
  add("isZero", zero);
  add("crc32c", crc);
  return exports;
}

}  // namespace
}  // namespace guestwright

static Napi::Object Init(Napi::Env env, Napi::Object exports) { return guestwright::init(env, exports); }
NODE_API_MODULE(sysio, Init)
