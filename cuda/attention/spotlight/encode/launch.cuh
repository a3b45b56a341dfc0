// Launches, checked: a kernel that cannot start throws spotlight::Error where it was asked for.
#pragma once

#include <cuda_runtime.h>

#include "device/cuda/runtime/cuda_error.h"

namespace spotlight::gpu {

// A kernel may use 48 KB of dynamic shared memory unless it is told otherwise, on each device.
template <typename... Parameters>
void allow_shared_memory(void (*kernel)(Parameters...), size_t bytes) {
  if (bytes > 48 * 1024)
    CUDA_CHECK(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                    static_cast<int>(bytes)));
}

// Kernels that follow each other closely all ask for as much shared memory as there is: a
// multiprocessor can start one only when its memory is divided as that one wants it, and divides it
// anew only when it is idle.
template <typename... Parameters>
void prefer_shared_memory(void (*kernel)(Parameters...)) {
  CUDA_CHECK(cudaFuncSetAttribute(kernel, cudaFuncAttributePreferredSharedMemoryCarveout,
                                  cudaSharedmemCarveoutMaxShared));
}

template <typename... Parameters, typename... Arguments>
void launch(cudaStream_t stream, void (*kernel)(Parameters...), dim3 grid, int threads,
            size_t shared_bytes, const Arguments&... arguments) {
  allow_shared_memory(kernel, shared_bytes);
  cudaLaunchConfig_t config = {};
  config.gridDim = grid;
  config.blockDim = dim3(threads);
  config.dynamicSmemBytes = shared_bytes;
  config.stream = stream;
  CUDA_CHECK(cudaLaunchKernelEx(&config, kernel, arguments...));
}

}  // namespace spotlight::gpu
