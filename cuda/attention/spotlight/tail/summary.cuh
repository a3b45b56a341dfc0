// A closed block's summary on the GPU: means of its 64 rows as stored, summed in position order as
// the CPU sums them, so that a block closed by a decode step and one closed inside a prompt's chunk
// have the same bits.
#pragma once

#include "attention/backend.h"
#include "attention/spotlight/encode/number.cuh"

namespace spotlight::gpu {

// Two neighbouring elements.
template <typename T>
__device__ inline float2 load_two(const T* from) {
  union {
    uint32_t bits;
    T value[2];
  } moved{*reinterpret_cast<const uint32_t*>(from)};
  return {widen(moved.value[0]), widen(moved.value[1])};
}

// Columns 2 pair and 2 pair + 1 of the mean. Rows [0, old) are read from `stored` [64, head_dim],
// kFlight at a time, the others from `fresh`, a row fresh_stride elements on.
template <int kFlight, typename T>
__device__ inline void summarise(const T* stored, int32_t old, int32_t head_dim, const T* fresh,
                                 int32_t fresh_stride, int32_t pair, T* mean) {
  float2 sum = {0.f, 0.f};
  const auto add = [&](float2 row) {
    sum.x = __fadd_rn(sum.x, row.x);
    sum.y = __fadd_rn(sum.y, row.y);
  };
#pragma unroll kFlight
  for (int32_t row = 0; row < old; row++) add(load_two(stored + row * head_dim + 2 * pair));
#pragma unroll 4
  for (int32_t row = old; row < kBlockSize; row++)
    add(load_two(fresh + (row - old) * fresh_stride + 2 * pair));
  mean[2 * pair] = narrow<T>(__fmul_rn(sum.x, 1.f / kBlockSize));
  mean[2 * pair + 1] = narrow<T>(__fmul_rn(sum.y, 1.f / kBlockSize));
}

}  // namespace spotlight::gpu
