// The pieces of a decode row become its output: values weighted by 2^lse. One block a row and head,
// four warps that take every fourth piece, in an order that depends on nothing but the pieces.
#pragma once

#include "attention/dense/gpu/launch.h"
#include "attention/spotlight/encode/number.cuh"

namespace spotlight::gpu {

inline constexpr int kMergeWarps = 4;

template <typename T, int D>
__global__ void __launch_bounds__(32 * kMergeWarps)
    merge_pieces(DecodePieces pieces, T* out, int32_t query_heads) {
  constexpr int kOwn = D / 32;
  __shared__ float warp_values[kMergeWarps][D];
  __shared__ float warp_max[kMergeWarps], warp_sum[kMergeWarps];
  const int32_t row = blockIdx.x, head = blockIdx.y;
  const int32_t token = pieces.token[row];
  if (token < 0) return;
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  float max = -INFINITY, sum = 0.f, values[kOwn] = {};
#pragma unroll 4
  for (int32_t piece = pieces.part[row] + warp; piece < pieces.part[row + 1];
       piece += kMergeWarps) {
    const int64_t at = int64_t{piece} * query_heads + head;
    const float lse = pieces.lse[at];
    const float top = fmaxf(max, lse);
    const float keep = exp2f(max - top), weight = exp2f(lse - top);
    const float* own = pieces.values + at * D;
#pragma unroll
    for (int i = 0; i < kOwn; i++) values[i] = values[i] * keep + weight * own[lane + 32 * i];
    sum = sum * keep + weight;
    max = top;
  }
  for (int i = 0; i < kOwn; i++) warp_values[warp][lane + 32 * i] = values[i];
  if (lane == 0) warp_max[warp] = max, warp_sum[warp] = sum;
  __syncthreads();
  float top = warp_max[0];
  for (int i = 1; i < kMergeWarps; i++) top = fmaxf(top, warp_max[i]);
  for (int d = threadIdx.x; d < D; d += 32 * kMergeWarps) {
    float total = 0.f, value = 0.f;
    for (int i = 0; i < kMergeWarps; i++) {
      const float weight = exp2f(warp_max[i] - top);
      total += weight * warp_sum[i];
      value += weight * warp_values[i][d];
    }
    out[(int64_t{token} * query_heads + head) * D + d] = narrow<T>(value / total);
  }
}

}  // namespace spotlight::gpu
