// Fills cache blocks with seeded keys and values for benchmarks, where a real prefill of a million
// tokens would take minutes: every block has a direction of its own beside each token's noise, as
// keys of neighbouring tokens do. Stored through append, so summaries and codes are the real ones.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "attention/gpu/view.h"
#include "device/cuda/runtime/device_memory.h"
#include "model/config.h"

namespace spotlight {

template <typename T>
class CacheFiller {
 public:
  explicit CacheFiller(const ModelConfig& config);

  // One layer of `count` blocks, given on the host. encoders: [kPlanes] on the device, or null.
  // What a block holds follows from seed, layer and the block's place in `blocks`.
  void fill(const gpu::Cache<T>& cache, const gpu::LayerEncoder* encoders, int32_t layer,
            const int32_t* blocks, int32_t count, uint64_t seed, cudaStream_t stream) const;

 private:
  ModelConfig config_;
  DeviceBuffer<T> k_, v_;       // [tokens, kv_width]
  DeviceBuffer<float> angles_;  // [tokens, head_dim]: turns nothing
  DeviceBuffer<int32_t> position_, seat_, tables_;
};

}  // namespace spotlight
