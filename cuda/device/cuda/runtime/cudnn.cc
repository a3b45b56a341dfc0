#include "device/cuda/runtime/cudnn.h"

#include <cstring>
#include <string>

#include "device/cuda/probe/dynamic_library.h"
#include "error.h"

namespace cudnn_frontend {
void* cudnn_dlhandle = nullptr;  // the frontend's own word: where it looks for cuDNN's functions
}  // namespace cudnn_frontend

namespace spotlight {
namespace {

constexpr size_t kOldestCudnn = 90500;  // attention over a paged cache

void load_cudnn() {
  static const bool loaded = [] {
    // First, while it can still be said what is missing: the frontend asks for it in a step.
    const DynamicLibrary runtime(kRuntimeLibrary);
    const DynamicLibrary library(kCudnnLibrary);
    size_t (*version)() = nullptr;
    library.find("cudnnGetVersion", version);
    if (version() < kOldestCudnn) {
      throw Error(kDeviceUnavailable, "cuDNN is of version " + std::to_string(version()) + ", " +
                                          std::to_string(kOldestCudnn) + " or newer is needed; " +
                                          kCudnnLibrary.remedy);
    }
    cudnn_frontend::cudnn_dlhandle = library.handle();
    return true;
  }();
  static_cast<void>(loaded);
}

void check_status(cudnnStatus_t status, const char* call) {
  if (status == CUDNN_STATUS_SUCCESS) return;
  throw Error(
      status == CUDNN_STATUS_ALLOC_FAILED ? kOutOfMemory : kInternal,
      std::string("cuDNN: ") + call + ": " + cudnn_frontend::detail::get_error_string(status));
}

}  // namespace

void* open_for_cudnn(const char* file, int flags) {
  if (std::strncmp(file, "libcudart", 9) != 0) return dlopen(file, flags);
  if (std::strcmp(file, kRuntimeLibrary.file) != 0) return nullptr;
  return DynamicLibrary(kRuntimeLibrary).handle();
}

CudnnHandle::CudnnHandle(cudaStream_t stream) {
  load_cudnn();
  check_status(cudnn_frontend::detail::create_handle(&handle_), "cudnnCreate");
  const cudnnStatus_t status = cudnn_frontend::detail::set_stream(handle_, stream);
  if (status == CUDNN_STATUS_SUCCESS) return;
  cudnn_frontend::detail::destroy_handle(handle_);
  check_status(status, "cudnnSetStream");
}

void CudnnHandle::use(cudaStream_t stream) const {
  check_status(cudnn_frontend::detail::set_stream(handle_, stream), "cudnnSetStream");
}

CudnnHandle::~CudnnHandle() { cudnn_frontend::detail::destroy_handle(handle_); }

void check_cudnn(cudnn_frontend::error_t error, const char* call) {
  if (error.is_good()) return;
  throw Error(kInternal, std::string("cuDNN: ") + call + ": " + error.get_message());
}

}  // namespace spotlight
