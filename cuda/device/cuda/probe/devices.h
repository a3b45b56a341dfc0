// Which GPUs this machine has, asked of the driver itself: no context is made on any, nothing of
// CUDA is linked, and a build without CUDA answers as well, so that everyone who lacks something
// is told what.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace spotlight {

struct CudaDeviceInfo {
  int32_t index = 0;  // as the CUDA runtime counts: CUDA_VISIBLE_DEVICES applies
  std::string name;
  int64_t memory_bytes = 0;
  int64_t free_bytes = -1;  // -1: NVML does not say
  int32_t major = 0, minor = 0;
  std::string driver;   // version of the driver, "580.159.04"
  std::string problem;  // why the engine cannot run on it; empty: it can
};

struct CudaDevices {
  std::vector<CudaDeviceInfo> devices;
  // A sentence for each thing that is missing for a GPU engine here: CUDA in this build, the
  // driver, a device, cuBLASLt, cuDNN.
  std::vector<std::string> missing;
};

// Takes up to a second: drivers and libraries are loaded. Throws nothing but std::bad_alloc.
CudaDevices cuda_devices();

// Whether code for `architectures` ("80,90a-real", as CMake has them) runs on
// a device of this compute capability.
bool runs_on(const std::string& architectures, int32_t major, int32_t minor);

// Why an engine of a build for `architectures` (empty: without CUDA) cannot run on the device;
// empty if it can. `cuda_version` is what the driver supports, 13000 for 13.0.
std::string problem_of(const CudaDeviceInfo& device, int32_t cuda_version,
                       const std::string& architectures);

}  // namespace spotlight
