#include "device/cuda/runtime/device_memory.h"

#include <string>

#include "error.h"

namespace spotlight {

size_t free_device_bytes() {
  size_t free_bytes = 0, total_bytes = 0;
  CUDA_CHECK(cudaMemGetInfo(&free_bytes, &total_bytes));
  return free_bytes;
}

namespace memory {

void* take_device(size_t bytes) {
  void* pointer = nullptr;
  const cudaError_t status = cudaMalloc(&pointer, bytes);
  if (status == cudaErrorMemoryAllocation) {
    cudaGetLastError();
    throw Error(kOutOfMemory, "GPU memory: " + std::to_string(bytes) + " bytes wanted, " +
                                  std::to_string(free_device_bytes()) + " free");
  }
  CUDA_CHECK(status);
  return pointer;
}

void* take_pinned(size_t bytes) {
  void* pointer = nullptr;
  const cudaError_t status = cudaHostAlloc(&pointer, bytes, cudaHostAllocDefault);
  if (status == cudaErrorMemoryAllocation) {
    cudaGetLastError();
    throw Error(kOutOfMemory,
                "pinned host memory: " + std::to_string(bytes) + " bytes could not be had");
  }
  CUDA_CHECK(status);
  return pointer;
}

}  // namespace memory
}  // namespace spotlight
