// Three small kernels: logits of every query head of the group, their maximum and sum, and the sum
// of the group's softmax. Sampled steps only, so a warp a key and plain loads will do.
#include <cuda_runtime.h>

#include "attention/exact/mass_gpu.h"
#include "attention/spotlight/encode/launch.cuh"
#include "attention/spotlight/encode/number.cuh"

namespace spotlight::gpu {
namespace {

constexpr int32_t kThreads = 256, kWarps = kThreads / 32;

// logits [group, context], scaled.
template <typename T>
__global__ __launch_bounds__(kThreads) void logits_kernel(const MassOp<T> op, float* logits) {
  const Cache<T>& cache = op.cache;
  const int32_t dim = cache.head_dim, group = cache.query_heads / cache.kv_heads;
  const int32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const float scale = rsqrtf(static_cast<float>(dim));
  const T* q = op.q + static_cast<int64_t>(op.head) * group * dim;
  const int64_t block = op.table[blockIdx.x];
  const T* keys = cache.k + (block * cache.kv_heads + op.head) * kBlockSize * dim;
  const int32_t first = static_cast<int32_t>(blockIdx.x) * kBlockSize;
  const int32_t tokens = min(kBlockSize, op.context - first);
  for (int32_t t = warp; t < tokens; t += kWarps) {
    for (int32_t h = 0; h < group; h++) {
      float sum = 0;
      for (int32_t i = lane; i < dim; i += 32)
        sum += widen(q[h * dim + i]) * widen(keys[static_cast<int64_t>(t) * dim + i]);
      for (int32_t distance = 16; distance > 0; distance /= 2)
        sum += __shfl_xor_sync(0xffffffffu, sum, distance);
      if (lane == 0) logits[static_cast<int64_t>(h) * op.context + first + t] = scale * sum;
    }
  }
}

template <typename Combine>
__device__ inline float reduce(float value, float* shared, Combine combine) {
  for (int32_t distance = 16; distance > 0; distance /= 2)
    value = combine(value, __shfl_xor_sync(0xffffffffu, value, distance));
  __syncthreads();  // who read the last result has done so
  if (threadIdx.x % 32 == 0) shared[threadIdx.x / 32] = value;
  __syncthreads();
  value = shared[0];
  for (int32_t w = 1; w < kWarps; w++) value = combine(value, shared[w]);
  return value;
}

// A block of threads a query head: stats [group, 2], the largest logit and 1 / the sum of exp.
__global__ __launch_bounds__(kThreads) void stats_kernel(const float* logits, int32_t context,
                                                         float* stats) {
  __shared__ float shared[kWarps];
  const float* own = logits + static_cast<int64_t>(blockIdx.x) * context;
  float top = -INFINITY;
  for (int32_t t = threadIdx.x; t < context; t += kThreads) top = fmaxf(top, own[t]);
  top = reduce(top, shared, [](float a, float b) { return fmaxf(a, b); });
  float sum = 0;
  for (int32_t t = threadIdx.x; t < context; t += kThreads) sum += __expf(own[t] - top);
  sum = reduce(sum, shared, [](float a, float b) { return a + b; });
  if (threadIdx.x == 0) {
    stats[2 * blockIdx.x] = top;
    stats[2 * blockIdx.x + 1] = 1.0f / sum;
  }
}

__global__ __launch_bounds__(kThreads) void mass_kernel(const float* logits, const float* stats,
                                                        int32_t group, int32_t context,
                                                        float* mass) {
  const int32_t t = static_cast<int32_t>(blockIdx.x) * kThreads + static_cast<int32_t>(threadIdx.x);
  if (t >= context) return;
  float sum = 0;
  for (int32_t h = 0; h < group; h++)
    sum += __expf(logits[static_cast<int64_t>(h) * context + t] - stats[2 * h]) * stats[2 * h + 1];
  mass[t] = sum;
}

}  // namespace

size_t mass_workspace(int32_t group, int32_t context) {
  return static_cast<size_t>(group) * (static_cast<size_t>(context) + 2);
}

template <typename T>
void softmax_mass(cudaStream_t stream, const MassOp<T>& op) {
  if (op.context <= 0) return;
  const int32_t group = op.cache.query_heads / op.cache.kv_heads;
  float* stats = op.workspace;
  float* logits = stats + 2 * group;
  launch(stream, logits_kernel<T>, dim3((op.context + kBlockSize - 1) / kBlockSize), kThreads, 0,
         op, logits);
  launch(stream, stats_kernel, dim3(group), kThreads, 0, logits, op.context, stats);
  launch(stream, mass_kernel, dim3((op.context + kThreads - 1) / kThreads), kThreads, 0, logits,
         stats, group, op.context, op.mass);
}

template void softmax_mass(cudaStream_t, const MassOp<__nv_bfloat16>&);
template void softmax_mass(cudaStream_t, const MassOp<__half>&);

}  // namespace spotlight::gpu
