// Owners of memory: on the GPU, and pinned on the host so that copies run beside the host's work.
// Plain cudaMalloc: the engine takes its memory once at start, and a pool of the driver's would
// hide what is free. Sizes are in elements.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <memory>
#include <utility>

#include "device/cuda/runtime/cuda_error.h"

namespace spotlight {

namespace memory {

// Throw OUT_OF_MEMORY with the bytes wanted and, on the GPU, the bytes free.
void* take_device(size_t bytes);
void* take_pinned(size_t bytes);
struct GiveDevice {
  void operator()(void* pointer) const noexcept { cudaFree(pointer); }
};
struct GivePinned {
  void operator()(void* pointer) const noexcept { cudaFreeHost(pointer); }
};

// `count` of T, aligned to 256 bytes at least; contents undefined. Default-made or of 0: null.
template <typename T, void* (*take)(size_t), typename Give>
class Buffer {
 public:
  Buffer() = default;
  explicit Buffer(size_t count)
      : data_(count == 0 ? nullptr : static_cast<T*>(take(count * sizeof(T)))), count_(count) {}
  Buffer(Buffer&& other) noexcept
      : data_(std::move(other.data_)), count_(std::exchange(other.count_, 0)) {}
  Buffer& operator=(Buffer&& other) noexcept {
    data_ = std::move(other.data_);
    count_ = std::exchange(other.count_, 0);
    return *this;
  }

  T* data() const { return data_.get(); }
  size_t size() const { return count_; }
  size_t bytes() const { return count_ * sizeof(T); }

 private:
  std::unique_ptr<T, Give> data_;
  size_t count_ = 0;
};

}  // namespace memory

template <typename T>
using DeviceBuffer = memory::Buffer<T, memory::take_device, memory::GiveDevice>;
template <typename T>
using PinnedBuffer = memory::Buffer<T, memory::take_pinned, memory::GivePinned>;

// Bytes of the current device that an allocation can still have.
size_t free_device_bytes();

}  // namespace spotlight
