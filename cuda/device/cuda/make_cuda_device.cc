// Which device a build with CUDA makes, or what is missing for one.
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdlib>

#include "device/cuda/cuda_device.h"
#include "device/cuda/probe/devices.h"
#include "error.h"

namespace spotlight {
namespace {

// Throws DEVICE_UNAVAILABLE with what is missing for the first GPU there is, or for any.
void check_present() {
  int count = 0;
  const cudaError_t status = cudaGetDeviceCount(&count);
  const CudaDevices found = cuda_devices();
  std::string why;
  if (status != cudaSuccess || count == 0) {
    cudaGetLastError();
    for (const std::string& missing : found.missing) why += (why.empty() ? "" : "; ") + missing;
    if (why.empty()) why = status != cudaSuccess ? cudaGetErrorString(status) : "there is no GPU";
  } else if (!found.devices.empty()) {
    why = found.devices[0].problem;
  }
  if (!why.empty()) throw Error(kDeviceUnavailable, "device \"cuda\": " + why);
}

}  // namespace

// SPOTLIGHT_CUDA_GRAPHS=0 launches decode steps op by op. SPOTLIGHT_CUDA_FAULT_AFTER=N is for tests
// of a worker's end: a kernel traps once N steps were launched.
std::unique_ptr<Device> make_cuda_device(const DeviceOptions& options) {
  if (options.dtype != "bf16" && options.dtype != "fp16")
    throw Error(kInvalidArgument, "dtype: \"" + options.dtype + "\", must be \"bf16\" or \"fp16\"");
  check_present();
  const char* setting = std::getenv("SPOTLIGHT_CUDA_GRAPHS");
  const bool graphs = setting == nullptr || std::string(setting) != "0";
  if (options.dtype == "fp16") return std::make_unique<CudaDevice<__half>>(options, graphs);
  return std::make_unique<CudaDevice<__nv_bfloat16>>(options, graphs);
}

}  // namespace spotlight
