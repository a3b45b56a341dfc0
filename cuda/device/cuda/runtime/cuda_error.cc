#include "device/cuda/runtime/cuda_error.h"

#include <cstring>
#include <string>

#include "error.h"

namespace spotlight {

bool is_sticky(cudaError_t error) {
  switch (error) {
    case cudaErrorIllegalAddress:
    case cudaErrorLaunchTimeout:
    case cudaErrorAssert:
    case cudaErrorHardwareStackError:
    case cudaErrorIllegalInstruction:
    case cudaErrorMisalignedAddress:
    case cudaErrorInvalidAddressSpace:
    case cudaErrorInvalidPc:
    case cudaErrorLaunchFailure:
    case cudaErrorECCUncorrectable:
    case cudaErrorNvlinkUncorrectable:
    case cudaErrorContained:
    case cudaErrorExternalDevice:
    case cudaErrorTensorMemoryLeak:
    case cudaErrorUnknown:
      return true;
    default:
      return false;
  }
}

void throw_cuda_error(cudaError_t error, const char* call, const char* file, int line) {
  cudaGetLastError();  // else the next check of a launch would report this one again
  const char* base = std::strrchr(file, '/');
  std::string message = std::string(call) + ": " + cudaGetErrorName(error) + ": " +
                        cudaGetErrorString(error) + " (" + (base == nullptr ? file : base + 1) +
                        ":" + std::to_string(line) + ")";
  if (is_sticky(error)) message += "; the device's context is lost";
  switch (error) {
    case cudaErrorMemoryAllocation:
      throw Error(kOutOfMemory, "GPU memory: " + message);
    case cudaErrorNoDevice:
    case cudaErrorInsufficientDriver:
    case cudaErrorInvalidDevice:
    case cudaErrorNoKernelImageForDevice:
    case cudaErrorDevicesUnavailable:
      throw Error(kDeviceUnavailable, message);
    default:
      throw Error(kInternal, message);
  }
}

}  // namespace spotlight
