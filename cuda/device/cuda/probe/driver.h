// The few functions of the driver (libcuda) and of NVML that describe devices, declared here
// because CUDA's headers are not there in every build; both libraries keep these for good.
#pragma once

#include <cstdint>

#include "device/cuda/probe/dynamic_library.h"

namespace spotlight {

struct Uuid {
  unsigned char bytes[16];
};

struct Driver {
  using Device = int;
  enum Attribute { kMajor = 75, kMinor = 76 };  // CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_*

  Driver();  // throws DEVICE_UNAVAILABLE

  int (*init)(unsigned flags);
  int (*error_text)(int status, const char** text);
  int (*version)(int* version);  // what CUDA it supports, 13000 for 13.0
  int (*count)(int* count);
  int (*device)(Device* device, int index);
  int (*name)(char* name, int size, Device device);
  int (*memory)(size_t* bytes, Device device);
  int (*attribute)(int* value, Attribute attribute, Device device);
  int (*uuid)(Uuid* uuid, Device device);  // of the MIG instance, if it is one

 private:
  DynamicLibrary library_;
};

struct Management {
  using Device = void*;
  struct Memory {
    unsigned long long total, free, used;
  };

  Management();  // throws DEVICE_UNAVAILABLE

  int (*init)();
  int (*shutdown)();
  int (*driver_version)(char* text, unsigned size);
  int (*device)(const char* uuid, Device* device);
  int (*memory)(Device device, Memory* memory);

 private:
  DynamicLibrary library_;
};

}  // namespace spotlight
