// What a step's kernels read besides weights and cache, written by the host into pinned memory and
// sent in one copy. Pieces are taken front to back; a step that takes the same sizes in the same
// order finds them at the same device addresses, which is what lets a captured graph read the next
// step's. Two pinned images, since the host writes a step while the one before is still in flight;
// one in device memory, since the copy is in the steps' order.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>
#include <string>

#include "device/cuda/runtime/device_memory.h"
#include "error.h"

namespace spotlight {

class StepImage {
 public:
  explicit StepImage(size_t bytes) : pinned_{bytes_of(bytes), bytes_of(bytes)}, device_(bytes) {}

  // Starts on the other pinned image, whose step must have finished.
  void begin() {
    turn_ = 1 - turn_;
    used_ = 0;
  }
  template <typename T>
  struct Piece {
    T* host = nullptr;
    const T* device = nullptr;
  };
  template <typename T>
  Piece<T> take(size_t count) {
    const size_t at = used_;
    used_ += (count * sizeof(T) + 15) / 16 * 16;
    if (used_ > device_.size())
      throw Error(kInternal, "a step's description takes " + std::to_string(used_) + " bytes, " +
                                 std::to_string(device_.size()) + " are set aside");
    return {reinterpret_cast<T*>(pinned_[turn_].data() + at),
            reinterpret_cast<const T*>(device_.data() + at)};
  }
  size_t size() const { return device_.size(); }
  void send(cudaStream_t stream) {
    CUDA_CHECK(cudaMemcpyAsync(device_.data(), pinned_[turn_].data(), used_, cudaMemcpyHostToDevice,
                               stream));
  }

 private:
  static PinnedBuffer<std::byte> bytes_of(size_t bytes) { return PinnedBuffer<std::byte>(bytes); }

  PinnedBuffer<std::byte> pinned_[2];
  DeviceBuffer<std::byte> device_;
  int turn_ = 0;
  size_t used_ = 0;
};

}  // namespace spotlight
