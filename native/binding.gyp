{
  "target_defaults": {
    "include_dirs": ["<!@(node -p \"require('node-addon-api').include_dir\")", "."],
    "defines": ["NAPI_VERSION=8", "NAPI_CPP_EXCEPTIONS", "_FILE_OFFSET_BITS=64"],
    "cflags!": ["-fno-exceptions"],
    "cflags_cc!": ["-fno-exceptions", "-fno-rtti", "-std=gnu++17"],
    "cflags_cc": ["-std=c++20", "-fexceptions", "-O2", "-Wall", "-Wextra", "-Werror"]
  },
  "targets": [
    {
      "target_name": "sysio",
      "sources": ["napi/sysio.cc", "napi/args.cc", "codec/crc32c.cc", "codec/zero.cc"]
    }
  ]
}
