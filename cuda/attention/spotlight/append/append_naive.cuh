// Append by the obvious kernels, one thread a token and KV head, for tests to compare with:
// linear-asym codes only, and summaries in a second launch.
#pragma once

#include <cuda_runtime.h>

#include "attention/spotlight/append/append.h"
#include "attention/spotlight/encode/launch.cuh"
#include "attention/spotlight/encode/number.cuh"

namespace spotlight::gpu {

template <typename T>
__device__ inline int64_t naive_place(const AppendOp<T>& op, int32_t token, int32_t head) {
  const int32_t position = op.tokens.position[token];
  const int64_t block =
      op.tokens
          .tables[int64_t{op.tokens.seat[token]} * op.tokens.table_stride + position / kBlockSize];
  return (block * op.cache.kv_heads + head) * kBlockSize + position % kBlockSize;
}

template <typename T>
__global__ void naive_store_kernel(const AppendOp<T> op) {
  const int32_t at = blockIdx.x * blockDim.x + threadIdx.x;
  const int32_t token = at / op.cache.kv_heads, head = at % op.cache.kv_heads;
  if (token >= op.tokens.count || op.tokens.seat[token] < 0) return;
  const int32_t dim = op.cache.head_dim, half = dim / 2;
  const int64_t place = naive_place(op, token, head);
  const T* k = op.k + token * op.k_stride + head * dim;
  const T* v = op.v + token * op.v_stride + head * dim;
  const float* angles = op.angles + int64_t{token} * dim;
  T* stored = op.cache.k + place * dim;
  for (int32_t i = 0; i < half; i++) {
    const float a = widen(k[i]), b = widen(k[half + i]), c = angles[i], s = angles[half + i];
    stored[i] = narrow<T>(__fsub_rn(__fmul_rn(a, c), __fmul_rn(b, s)));
    stored[half + i] = narrow<T>(__fadd_rn(__fmul_rn(b, c), __fmul_rn(a, s)));
  }
  for (int32_t i = 0; i < dim; i++) op.cache.v[place * dim + i] = v[i];
  for (int32_t p = 0; p < kPlanes; p++) {
    const LayerEncoder& encoder = op.encoders[p];
    if (encoder.kind != kLinearAsym) continue;
    const int32_t bits = encoder.linear.bits;
    const auto* weights =
        static_cast<const __nv_bfloat16*>(encoder.linear.key) + int64_t{head} * dim * bits;
    for (int32_t w = 0; w < bits / 32; w++) {
      uint32_t word = 0;
      for (int32_t b = 0; b < 32; b++) {
        float z = 0.f;
        for (int32_t i = 0; i < dim; i++)
          z += widen(stored[i]) * widen(weights[i * bits + 32 * w + b]);
        word |= (z > 0.f ? 1u : 0u) << b;
      }
      op.cache.codes[p][place * op.cache.code_words + w] = word;
    }
  }
}

template <typename T>
__global__ void naive_summary_kernel(const AppendOp<T> op) {
  const int32_t at = blockIdx.x * blockDim.x + threadIdx.x;
  const int32_t token = at / op.cache.kv_heads, head = at % op.cache.kv_heads;
  if (token >= op.tokens.count || op.tokens.seat[token] < 0) return;
  if (op.tokens.position[token] % kBlockSize != kBlockSize - 1) return;
  const int32_t dim = op.cache.head_dim;
  const int64_t block = naive_place(op, token, head) / kBlockSize;
  for (int32_t i = 0; i < dim; i++) {
    float k = 0.f, v = 0.f;
    for (int32_t row = 0; row < kBlockSize; row++) {
      k += widen(op.cache.k[(block * kBlockSize + row) * dim + i]);
      v += widen(op.cache.v[(block * kBlockSize + row) * dim + i]);
    }
    op.cache.mean_k[block * dim + i] = narrow<T>(k / kBlockSize);
    op.cache.mean_v[block * dim + i] = narrow<T>(v / kBlockSize);
  }
}

template <typename T>
void append_naive(const AppendOp<T>& op) {
  constexpr int32_t kThreads = 64;
  const dim3 grid((op.tokens.count * op.cache.kv_heads + kThreads - 1) / kThreads);
  launch(nullptr, naive_store_kernel<T>, grid, kThreads, 0, op);
  launch(nullptr, naive_summary_kernel<T>, grid, kThreads, 0, op);
}

}  // namespace spotlight::gpu
