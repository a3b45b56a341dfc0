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

// partials: of `parts` pieces next to each other. weights: [parts, 16] in shared memory.
template <typename T, int kDim>
__device__ inline void merge_pieces(const float* partials, int32_t parts, int32_t heads,
                                    float* weights, T* out) {
  constexpr int kWarps = RowTile<T, kDim>::kWarps;
  const int32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const int64_t stride = partial_floats(heads, kDim);
  for (int32_t head = warp; head < heads; head += kWarps) {
    float highest = -INFINITY, all = 0.0f;
    for (int32_t part = lane; part < parts; part += 32)
      highest = fmaxf(highest, __ldcg(partials + part * stride + head));
#pragma unroll
    for (int step = 16; step > 0; step /= 2)
      highest = fmaxf(highest, __shfl_xor_sync(~0u, highest, step));
    for (int32_t part = lane; part < parts; part += 32) {
      const float weight = weight_of(__ldcg(partials + part * stride + head), highest);
      weights[part * kMostRows + head] = weight;
      all += weight * __ldcg(partials + part * stride + kMostRows + head);
    }
#pragma unroll
    for (int step = 16; step > 0; step /= 2) all += __shfl_xor_sync(~0u, all, step);
    const float scale = 1.0f / all;
    for (int32_t part = lane; part < parts; part += 32) weights[part * kMostRows + head] *= scale;
  }
  __syncthreads();
  for (int32_t i = threadIdx.x; i < heads * (kDim / 4); i += kWarps * 32) {
    const int32_t head = i / (kDim / 4);
    const float* from = partials + 2 * kMostRows + i * 4;
    float4 four{};
#pragma unroll 12
    for (int32_t part = 0; part < parts; part++)
      add_scaled(four, weights[part * kMostRows + head],
                 __ldcg(reinterpret_cast<const float4*>(from + part * stride)));
    store_four(out + i * 4, four);
  }
}

}  // namespace spotlight::gpu
