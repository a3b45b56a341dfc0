// For tests that need a GPU: without one they are skipped, saying why, unless SPOTLIGHT_REQUIRE_GPU
// is set (npm run test:gpu sets it): there a GPU that is not found is a failure.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdlib>
#include <string>

#include "test/check.h"

namespace spotlight::check {

inline void need_gpu() {
  int count = 0;
  const cudaError_t status = cudaGetDeviceCount(&count);
  if (status == cudaSuccess && count > 0) return;
  const std::string why =
      std::string("no GPU: ") + (status == cudaSuccess ? "none shown" : cudaGetErrorString(status));
  cudaGetLastError();
  if (std::getenv("SPOTLIGHT_REQUIRE_GPU") != nullptr) throw Failure(why);
  skip(why);
}

}  // namespace spotlight::check
