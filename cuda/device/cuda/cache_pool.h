// The block pool in device memory: the arenas of KvArena in the device's 16-bit type, each one
// allocation over all layers. Starts zeroed, since kernels may load (and mask) slots never written.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "attention/gpu/view.h"
#include "device/cuda/runtime/device_memory.h"
#include "model/config.h"

namespace spotlight {

// Of the memory that is free once weights and workspaces are there, what a pool takes whose size is
// left to the device; the rest is the driver's for graphs, modules and local memory.
inline constexpr double kPoolShare = 0.9;

class CachePool {
 public:
  // blocks 0: as many as kPoolShare of the free memory holds. Throws OUT_OF_MEMORY with the
  // numbers, INVALID_ARGUMENT for code_bits out of range.
  CachePool(const ModelConfig& config, int32_t blocks, int32_t code_bits);

  int32_t blocks() const { return blocks_; }
  template <typename T>
  gpu::Cache<T> layer(int32_t layer) const {
    gpu::Cache<T> cache;
    cache.k = at<T>(kKeys, layer);
    cache.v = at<T>(kValues, layer);
    cache.mean_k = at<T>(kMeanKeys, layer);
    cache.mean_v = at<T>(kMeanValues, layer);
    for (int p = 0; p < kPlanes; p++) cache.codes[p] = at<uint32_t>(kCodes + p, layer);
    cache.kv_heads = kv_heads_;
    cache.query_heads = query_heads_;
    cache.head_dim = head_dim_;
    cache.code_words = code_words_;
    return cache;
  }
  // A whole block in every layer and arena, in the stream's order.
  void copy_block(int32_t from, int32_t to, cudaStream_t stream);

 private:
  enum { kKeys, kValues, kMeanKeys, kMeanValues, kCodes, kArenas = kCodes + kPlanes };
  struct Arena {
    DeviceBuffer<std::byte> memory;
    size_t block_bytes = 0;  // of one block in one layer
  };
  template <typename T>
  T* at(int arena, int32_t layer) const {
    return reinterpret_cast<T*>(arenas_[arena].memory.data() +
                                static_cast<size_t>(layer) * blocks_ * arenas_[arena].block_bytes);
  }

  int32_t layers_, blocks_, kv_heads_, query_heads_, head_dim_, code_words_;
  Arena arenas_[kArenas];
};

}  // namespace spotlight
