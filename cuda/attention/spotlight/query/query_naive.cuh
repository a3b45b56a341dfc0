// RoPE and linear-asym codes of queries by the obvious kernels, for tests to compare with: one
// thread a token and head, then one thread a query and KV head.
#pragma once

#include <cuda_runtime.h>

#include "attention/spotlight/encode/launch.cuh"
#include "attention/spotlight/encode/limits.h"
#include "attention/spotlight/encode/number.cuh"
#include "attention/spotlight/query/query_code.h"

namespace spotlight::gpu {

template <typename T>
__global__ void naive_turn_kernel(const QueryOp<T> op) {
  const int32_t at = blockIdx.x * blockDim.x + threadIdx.x;
  const int32_t token = at / op.query_heads, head = at % op.query_heads;
  if (token >= op.tokens.count || op.tokens.seat[token] < 0) return;
  const int32_t half = op.head_dim / 2;
  T* q = op.q + token * op.q_stride + head * op.head_dim;
  const float* angles = op.angles + int64_t{token} * op.head_dim;
  for (int32_t i = 0; i < half; i++) {
    const float a = widen(q[i]), b = widen(q[half + i]), c = angles[i], s = angles[half + i];
    q[i] = narrow<T>(__fsub_rn(__fmul_rn(a, c), __fmul_rn(b, s)));
    q[half + i] = narrow<T>(__fadd_rn(__fmul_rn(b, c), __fmul_rn(a, s)));
  }
}

template <typename T>
__global__ void naive_code_kernel(const QueryOp<T> op) {
  const int32_t at = blockIdx.x * blockDim.x + threadIdx.x;
  const int32_t i = at / op.kv_heads, head = at % op.kv_heads;
  if (i >= op.queries.count) return;
  const Query query = op.queries.list[i];
  if (query.mode != kQuerySparse && query.mode != kQueryTail) return;
  const LinearAsymWeights& linear = op.encoders[query.plane].linear;
  const int32_t dim = op.head_dim, bits = linear.bits, group = op.query_heads / op.kv_heads;
  float u[kMaxLinearBits] = {};
  float largest = 1e-6f;
  for (int32_t b = 0; b < bits; b++) {
    for (int32_t g = 0; g < group; g++) {
      const int32_t query_head = head * group + g;
      const T* q = op.q + query.token * op.q_stride + query_head * dim;
      const auto* weights =
          static_cast<const __nv_bfloat16*>(linear.query) + int64_t{query_head} * dim * bits;
      float s = 0.f;
      for (int32_t j = 0; j < dim; j++) s += widen(q[j]) * widen(weights[j * bits + b]);
      u[b] += s / (1.f + fabsf(s));
    }
    largest = fmaxf(largest, fabsf(u[b]));
  }
  uint32_t* code = op.codes.words + (int64_t{i} * op.kv_heads + head) * op.codes.stride;
  const int32_t words = bits / 32;
  for (int32_t w = 0; w < kLinearAsymPlanes * words; w++) code[w] = 0;
  for (int32_t b = 0; b < bits; b++) {
    const auto value = static_cast<int32_t>(rintf(u[b] / largest * 7.f));
    const uint32_t bit = 1u << (b % 32);
    if (value > 0) code[b / 32] |= bit;
    for (int32_t p = 0; p < 3; p++)
      if (abs(value) >> p & 1) code[(p + 1) * words + b / 32] |= bit;
  }
}

template <typename T>
void encode_queries_naive(const QueryOp<T>& op) {
  constexpr int32_t kThreads = 64;
  const dim3 turn((op.tokens.count * op.query_heads + kThreads - 1) / kThreads);
  launch(nullptr, naive_turn_kernel<T>, turn, kThreads, 0, op);
  const dim3 code((op.queries.count * op.kv_heads + kThreads - 1) / kThreads);
  launch(nullptr, naive_code_kernel<T>, code, kThreads, 0, op);
}

}  // namespace spotlight::gpu
