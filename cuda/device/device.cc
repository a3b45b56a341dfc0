#include "device/device.h"

#include "error.h"

namespace spotlight {

#ifndef SPOTLIGHT_CUDA
std::unique_ptr<Device> make_cuda_device(const DeviceOptions&) {
  throw Error(kDeviceUnavailable,
              "device: this build of the native module has no CUDA; build it with SPOTLIGHT_CUDA=1 "
              "npm run build -w cuda, or take device \"cpu\"");
}
#endif

std::unique_ptr<Device> make_device(const std::string& kind, const DeviceOptions& options) {
  if (kind == "cpu") return make_cpu_device(options);
  if (kind == "cuda") return make_cuda_device(options);
  throw Error(kInvalidArgument, "device: \"" + kind + "\", must be \"cpu\" or \"cuda\"");
}

}  // namespace spotlight
