#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <algorithm>
#include <vector>

#include "attention/spotlight/append/append.h"
#include "device/cuda/fill.h"
#include "device/cuda/runtime/cuda_error.h"

namespace spotlight {
namespace {

constexpr int kThreads = 256;
constexpr int32_t kBlocks = 64;  // filled by one launch
constexpr float kShared = 0.5f;  // of a block's common direction beside noise of deviation one

__device__ uint64_t mix(uint64_t x) {  // splitmix64
  x += 0x9e3779b97f4a7c15ull;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
  return x ^ (x >> 31);
}

// Near normal, deviation one: the sum of four uniform draws.
__device__ float normal(uint64_t key, uint64_t index) {
  const uint64_t word = mix(key ^ mix(index));
  float sum = 0;
  for (int lane = 0; lane < 4; lane++)
    sum += static_cast<float>(static_cast<int16_t>(word >> (16 * lane))) * (1.f / 32768);
  return sum * 0.866f;
}

template <typename T>
__global__ void __launch_bounds__(kThreads)
    random_kernel(uint64_t key, int32_t first_block, int64_t width, int64_t count, T* k, T* v) {
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= count) return;
  const int64_t token = i / width, column = i % width;
  const uint64_t block = first_block + token / kBlockSize;
  const uint64_t own = (block * kBlockSize + token % kBlockSize) * width + column;
  const float shared_k = normal(key + 1, block * width + column);
  const float shared_v = normal(key + 2, block * width + column);
  k[i] = static_cast<T>(normal(key + 3, own) + kShared * shared_k);
  v[i] = static_cast<T>(normal(key + 4, own) + kShared * shared_v);
}

}  // namespace

template <typename T>
CacheFiller<T>::CacheFiller(const ModelConfig& config)
    : config_(config),
      k_(static_cast<size_t>(kBlocks) * kBlockSize * config.kv_width()),
      v_(k_.size()),
      angles_(static_cast<size_t>(kBlocks) * kBlockSize * config.head_dim),
      position_(kBlocks * kBlockSize),
      seat_(kBlocks * kBlockSize),
      tables_(kBlocks) {
  // Every block is a sequence of its own whose 64 tokens stand at positions 0 to 63.
  std::vector<int32_t> position(position_.size()), seat(seat_.size());
  std::vector<float> angles(angles_.size());
  for (size_t i = 0; i < position.size(); i++) {
    position[i] = static_cast<int32_t>(i % kBlockSize);
    seat[i] = static_cast<int32_t>(i / kBlockSize);
    for (int32_t d = 0; d < config.head_dim / 2; d++)
      angles[i * static_cast<size_t>(config.head_dim) + static_cast<size_t>(d)] = 1;
  }
  const auto upload = [](const auto& values, const auto& buffer) {
    CUDA_CHECK(cudaMemcpy(buffer.data(), values.data(), buffer.bytes(), cudaMemcpyHostToDevice));
  };
  upload(position, position_);
  upload(seat, seat_);
  upload(angles, angles_);
}

template <typename T>
void CacheFiller<T>::fill(const gpu::Cache<T>& cache, const gpu::LayerEncoder* encoders,
                          int32_t layer, const int32_t* blocks, int32_t count, uint64_t seed,
                          cudaStream_t stream) const {
  const int64_t width = config_.kv_width();
  for (int32_t from = 0; from < count; from += kBlocks) {
    const int32_t some = std::min(kBlocks, count - from);
    const int64_t values = int64_t{some} * kBlockSize * width;
    CUDA_CHECK(cudaMemcpyAsync(tables_.data(), blocks + from,
                               static_cast<size_t>(some) * sizeof(int32_t), cudaMemcpyHostToDevice,
                               stream));
    random_kernel<T>
        <<<static_cast<unsigned>((values + kThreads - 1) / kThreads), kThreads, 0, stream>>>(
            seed * 0x9e3779b97f4a7c15ull + static_cast<uint64_t>(layer) * 8, from, width, values,
            k_.data(), v_.data());
    CUDA_CHECK_LAUNCH("fill");
    gpu::AppendOp<T> op;
    op.cache = cache;
    op.tokens = {position_.data(), seat_.data(), tables_.data(), 1, some * kBlockSize};
    op.k = k_.data();
    op.v = v_.data();
    op.k_stride = op.v_stride = width;
    op.angles = angles_.data();
    op.encoders = encoders;
    gpu::append(stream, op);
  }
}

template class CacheFiller<__nv_bfloat16>;
template class CacheFiller<__half>;

}  // namespace spotlight
