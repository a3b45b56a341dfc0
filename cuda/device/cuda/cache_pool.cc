#include "device/cuda/cache_pool.h"

#include <algorithm>
#include <string>

#include "device/cuda/ops.h"
#include "error.h"
#include "kv/arenas.h"

namespace spotlight {

CachePool::CachePool(const ModelConfig& config, int32_t blocks, int32_t code_bits)
    : layers_(config.layers),
      blocks_(blocks),
      kv_heads_(config.kv_heads),
      query_heads_(config.query_heads),
      head_dim_(config.head_dim),
      code_words_(code_bits / 32) {
  check_code_bits(code_bits);
  const size_t one = block_bytes(config, code_bits), free = free_device_bytes();
  const auto mib = [](size_t bytes) { return std::to_string(bytes >> 20) + " MiB"; };
  if (blocks_ == 0) {
    const auto fit = static_cast<size_t>(static_cast<double>(free) * kPoolShare) / one;
    if (fit == 0)
      throw Error(kOutOfMemory, "the block pool: " + mib(free) +
                                    " of GPU memory are free beside the model, one block of 64 "
                                    "tokens takes " +
                                    std::to_string(one) + " bytes; take a smaller model");
    blocks_ = static_cast<int32_t>(std::min<size_t>(fit, INT32_MAX));
  }
  if (blocks_ < 0)
    throw Error(kInvalidArgument, "blocks: " + std::to_string(blocks_) + ", must be at least 1");
  const auto count = static_cast<size_t>(blocks_);
  if (count > free / one) {
    throw Error(kOutOfMemory, "the block pool of " + std::to_string(blocks_) + " blocks needs " +
                                  mib(count * one) + " of GPU memory, " + mib(free) +
                                  " are free beside the model: at most " +
                                  std::to_string(free / one) + " blocks fit");
  }
  const size_t width = static_cast<size_t>(kv_heads_) * head_dim_ * sizeof(uint16_t);
  for (const int a : {kKeys, kValues}) arenas_[a].block_bytes = width * kBlockSize;
  for (const int a : {kMeanKeys, kMeanValues}) arenas_[a].block_bytes = width;
  for (int p = 0; p < kPlanes; p++)
    arenas_[kCodes + p].block_bytes =
        static_cast<size_t>(kv_heads_) * kBlockSize * code_words_ * sizeof(uint32_t);
  for (Arena& arena : arenas_) {
    arena.memory = DeviceBuffer<std::byte>(arena.block_bytes * count * layers_);
    CUDA_CHECK(cudaMemset(arena.memory.data(), 0, arena.memory.bytes()));
  }
  CUDA_CHECK(cudaDeviceSynchronize());
}

void CachePool::copy_block(int32_t from, int32_t to, cudaStream_t stream) {
  for (const Arena& arena : arenas_) {
    std::byte* base = arena.memory.data();
    gpu::copy_block(base + arena.block_bytes * static_cast<size_t>(from),
                    base + arena.block_bytes * static_cast<size_t>(to), arena.block_bytes,
                    arena.block_bytes * static_cast<size_t>(blocks_), layers_, stream);
  }
}

}  // namespace spotlight
