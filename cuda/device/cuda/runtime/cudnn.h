// cuDNN through NVIDIA's frontend, both opened at run time: include this instead of
// <cudnn_frontend.h>, and make a CudnnHandle before anything of the frontend. The frontend wants
// functions of a shared CUDA runtime; its way of finding one depends on what else is installed, so
// the dlopen it sees is ours. Only *_cuda.cc and device/cuda/*.cc include this, never a header.
#pragma once

#include <dlfcn.h>

namespace spotlight {

// What the frontend opens: the CUDA runtime of our major version only, wherever DynamicLibrary
// finds it; anything else by the loader.
void* open_for_cudnn(const char* file, int flags);

}  // namespace spotlight

#define NV_CUDNN_FRONTEND_USE_DYNAMIC_LOADING
#define CUDNN_FRONTEND_SKIP_JSON_LIB
#define dlopen(file, flags) ::spotlight::open_for_cudnn(file, flags)
#include <cudnn_frontend.h>
#undef dlopen

namespace spotlight {

// A handle of the calling thread's current device, on `stream`; one thread uses it at a time. The
// first one opens cuDNN: throws DEVICE_UNAVAILABLE saying what is missing or too old (and the next
// tries again).
class CudnnHandle {
 public:
  explicit CudnnHandle(cudaStream_t stream);
  ~CudnnHandle();
  CudnnHandle(const CudnnHandle&) = delete;
  CudnnHandle& operator=(const CudnnHandle&) = delete;
  cudnnHandle_t get() const { return handle_; }
  // Work from here on goes to this stream.
  void use(cudaStream_t stream) const;

 private:
  cudnnHandle_t handle_ = nullptr;
};

// Throws INTERNAL with the call and the frontend's words.
void check_cudnn(cudnn_frontend::error_t error, const char* call);

}  // namespace spotlight

#define CUDNN_CHECK(call) ::spotlight::check_cudnn(call, #call)
