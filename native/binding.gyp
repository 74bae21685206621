{
  "variables": {
    "have_zstd%": "<!(pkg-config --exists libzstd 2>/dev/null && echo 1 || echo 0)",
    "have_kvm%": "<!(printf '%s\\n' '#include <linux/kvm.h>' '#ifndef __x86_64__' '#error' '#endif' | ${CXX:-g++} -E -x c++ - >/dev/null 2>&1 && echo 1 || { echo 'guestwright: no <linux/kvm.h> for x86-64 (apt-get install linux-libc-dev): the kvm part of the addon is left out' >&2; echo 0; })"
  },
  "target_defaults": {
    "include_dirs": ["<!@(node -p \"require('node-addon-api').include_dir\")", "."],
    "defines": ["NAPI_VERSION=8", "NAPI_CPP_EXCEPTIONS", "_FILE_OFFSET_BITS=64"],
    "cflags!": ["-fno-exceptions"],
    "cflags_cc!": ["-fno-exceptions", "-fno-rtti", "-std=gnu++17"],
    "cflags_cc": ["-std=c++20", "-fexceptions", "-O2", "-Wall", "-Wextra", "-Werror"],
    "libraries": ["-pthread"]
  },
  "targets": [
    {
      "target_name": "sysio",
      "sources": ["napi/sysio.cc", "napi/args.cc", "codec/crc32c.cc", "codec/zero.cc", "codec/pool.cc"]
    },
    {
      "target_name": "codec",
      "sources": ["napi/codec.cc", "napi/args.cc", "codec/aes.cc", "codec/compress.cc", "codec/pool.cc"],
      "conditions": [
        ["have_zstd==1", { "defines": ["HAVE_ZSTD"], "libraries": ["<!@(pkg-config --libs libzstd 2>/dev/null || true)"] }]
      ]
    }
  ],
  "conditions": [
    [
      "have_kvm==1",
      {
        "targets": [
          {
            "target_name": "kvm",
            "sources": [
              "napi/kvm.cc", "napi/args.cc", "kvm/resource.cc", "kvm/system.cc", "kvm/vm.cc", "kvm/layout.cc", "kvm/exit.cc",
              "kvm/vcpu.cc", "kvm/limit.cc", "kvm/guest.cc", "kvm/probe-guest.cc", "kvm/probe.cc"
            ]
          }
        ]
      }
    ]
  ]
}
