// From the states of warps to the state of a piece, and from the pieces of a query to its output,
// both in a fixed order whoever finishes first. Weights come first, so that the sums that follow
// are independent loads.
#pragma once

#include "attention/spotlight/attend/rows.cuh"

namespace spotlight::gpu {

// A partial state in device memory: max [16], sum [16], acc [heads, kDim] relative to max.
__device__ inline int64_t partial_floats(int32_t heads, int32_t dim) {
  return 2 * kMostRows + static_cast<int64_t>(heads) * dim;
}

__device__ inline float weight_of(float max, float top) {
  return max == -INFINITY ? 0.0f : ptx::exp2(max - top);
}

__device__ inline void add_scaled(float4& to, float weight, const float4& from) {
  to.x += weight * from.x, to.y += weight * from.y;
  to.z += weight * from.z, to.w += weight * from.w;
}

template <typename T>
__device__ inline void store_four(T* to, const float4& from) {
  uint2 packed{ptx::pack<T>(from.x, from.y), ptx::pack<T>(from.z, from.w)};
  *reinterpret_cast<uint2*>(to) = packed;
}

// memory: the CTA's shared memory for kWarps states, which may be the tiles' once all warps are
// through with them. `partial` null: the piece is the whole query, `out` [heads, kDim] takes it.
template <typename T, int kDim>
__device__ inline void merge_warps(RowState<T, kDim>& state, int32_t heads, float* memory,
                                   float* partial, T* out) {
  constexpr int kWarps = RowTile<T, kDim>::kWarps;
  constexpr int kThreads = kWarps * 32;
  const int32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  float* max = memory;                    // [kWarps, 16]
  float* sum = max + kWarps * kMostRows;  // [kWarps, 16]
  float* top = sum + kWarps * kMostRows;  // [16]
  float* total = top + kMostRows;         // [16]
  float* acc = total + kMostRows;         // [kWarps, 16, kDim]
#pragma unroll
  for (int half = 0; half < 2; half++) {
    const int32_t head = lane / 4 + 8 * half;
    state.sum[half] += __shfl_xor_sync(~0u, state.sum[half], 1);
    state.sum[half] += __shfl_xor_sync(~0u, state.sum[half], 2);
    if (head < heads) {
      if (lane % 4 == 0) {
        max[warp * kMostRows + head] = state.max[half];
        sum[warp * kMostRows + head] = state.sum[half];
      }
      float* row = acc + (warp * kMostRows + head) * kDim + lane % 4 * 2;
#pragma unroll
      for (int i = 0; i < kDim / 8; i++) {
        *reinterpret_cast<float2*>(row + 8 * i) =
            float2{state.acc[i][2 * half], state.acc[i][2 * half + 1]};
      }
    }
  }
  __syncthreads();
  if (threadIdx.x < heads) {
    const int32_t head = threadIdx.x;
    float highest = -INFINITY, all = 0.0f;
#pragma unroll
    for (int w = 0; w < kWarps; w++) highest = fmaxf(highest, max[w * kMostRows + head]);
#pragma unroll
    for (int w = 0; w < kWarps; w++) {
      const float weight = weight_of(max[w * kMostRows + head], highest);
      all += weight * sum[w * kMostRows + head];
      max[w * kMostRows + head] = weight;
    }
    if (partial) {
      partial[head] = highest;
      partial[kMostRows + head] = all;
    }
    total[head] = partial ? 1.0f : 1.0f / all;
  }
  __syncthreads();
  for (int32_t i = threadIdx.x; i < heads * (kDim / 4); i += kThreads) {
    const int32_t head = i / (kDim / 4);
    float4 four{};
#pragma unroll
    for (int w = 0; w < kWarps; w++) {
      // A warp without rows has acc 0.
      add_scaled(four, max[w * kMostRows + head],
                 *reinterpret_cast<const float4*>(acc + w * kMostRows * kDim + i * 4));
    }
    const float scale = total[head];
    four.x *= scale, four.y *= scale, four.z *= scale, four.w *= scale;
    if (partial)
      *reinterpret_cast<float4*>(partial + 2 * kMostRows + i * 4) = four;
    else
      store_four(out + i * 4, four);
  }
}

// partials: of `parts` pieces next to each other. memory: [2, parts, 16] in shared memory. What is
// read from device memory is read in few trips, many numbers at once.
template <typename T, int kDim>
__device__ inline void merge_pieces(const float* partials, int32_t parts, int32_t heads,
                                    float* memory, T* out) {
  constexpr int kThreads = RowTile<T, kDim>::kWarps * 32;
  constexpr int kAtOnce = 16;
  const int64_t stride = partial_floats(heads, kDim);
  const int32_t own = threadIdx.x % kMostRows, group = threadIdx.x / kMostRows;
  float* weights = memory;
  float* sums = memory + parts * kMostRows;
  if (own < heads) {
#pragma unroll 4
    for (int32_t part = group; part < parts; part += kThreads / kMostRows) {
      weights[part * kMostRows + own] = __ldcg(partials + part * stride + own);
      sums[part * kMostRows + own] = __ldcg(partials + part * stride + kMostRows + own);
    }
  }
  __syncthreads();
  float highest = -INFINITY, all = 0.0f;
  if (own < heads) {
#pragma unroll 4
    for (int32_t part = 0; part < parts; part++)
      highest = fmaxf(highest, weights[part * kMostRows + own]);
#pragma unroll 4
    for (int32_t part = 0; part < parts; part++)
      all += weight_of(weights[part * kMostRows + own], highest) * sums[part * kMostRows + own];
  }
  __syncthreads();
  if (own < heads) {
    const float scale = 1.0f / all;
    for (int32_t part = group; part < parts; part += kThreads / kMostRows)
      weights[part * kMostRows + own] = weight_of(weights[part * kMostRows + own], highest) * scale;
  }
  __syncthreads();
  for (int32_t i = threadIdx.x; i < heads * (kDim / 4); i += kThreads) {
    const int32_t head = i / (kDim / 4);
    const float* from = partials + 2 * kMostRows + i * 4;
    float4 four{};
#pragma unroll 1
    for (int32_t base = 0; base < parts; base += kAtOnce) {
      float4 some[kAtOnce];
#pragma unroll
      for (int32_t j = 0; j < kAtOnce; j++)
        some[j] = __ldcg(reinterpret_cast<const float4*>(from + min(base + j, parts - 1) * stride));
#pragma unroll
      for (int32_t j = 0; j < kAtOnce; j++)
        add_scaled(four, base + j < parts ? weights[(base + j) * kMostRows + head] : 0.0f, some[j]);
    }
    store_four(out + i * 4, four);
  }
}

}  // namespace spotlight::gpu
