// CUDA_CHECK: every call of the runtime is checked and becomes a spotlight::Error that names the
// call. Out of memory is OUT_OF_MEMORY and leaves the device usable; all else is INTERNAL, and the
// message says when the context is lost, after which nothing but a new process helps.
#pragma once

#include <cuda_runtime_api.h>

namespace spotlight {

// Whether every later call in this process will fail, too (an illegal address, a failed assert).
bool is_sticky(cudaError_t error);
[[noreturn]] void throw_cuda_error(cudaError_t error, const char* call, const char* file, int line);

inline void check_cuda(cudaError_t error, const char* call, const char* file, int line) {
  if (error != cudaSuccess) throw_cuda_error(error, call, file, line);
}

}  // namespace spotlight

#define CUDA_CHECK(call) ::spotlight::check_cuda(call, #call, __FILE__, __LINE__)
// After a launch: its configuration was accepted. What happens inside shows at the next wait.
#define CUDA_CHECK_LAUNCH(kernel) \
  ::spotlight::check_cuda(cudaGetLastError(), "launch of " kernel, __FILE__, __LINE__)
