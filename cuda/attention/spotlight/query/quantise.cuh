// From the group's sums u to 4-bit integers in bit planes, by one warp: the CPU's quantise, to the
// bit.
#pragma once

#include "attention/gpu/view.h"
#include "attention/spotlight/encode/limits.h"
#include "attention/spotlight/encode/project.cuh"

namespace spotlight::gpu {

__device__ inline float softsign(float s) { return __fdiv_rn(s, __fadd_rn(1.f, fabsf(s))); }

// u(bit) is called with 32 word + lane; planes: [kLinearAsymPlanes, words].
template <typename U>
__device__ inline void quantise(int32_t words, U u, uint32_t* planes) {
  float value[kMaxLinearBits / 32];
  float largest = 1e-6f;
#pragma unroll
  for (int w = 0; w < kMaxLinearBits / 32; w++) {
    if (w >= words) break;
    value[w] = u(32 * w + lane_id());
    largest = fmaxf(largest, fabsf(value[w]));
  }
#pragma unroll
  for (int o = kWarp / 2; o > 0; o /= 2)
    largest = fmaxf(largest, __shfl_xor_sync(0xffffffffu, largest, o));
#pragma unroll
  for (int w = 0; w < kMaxLinearBits / 32; w++) {
    if (w >= words) break;
    const float rounded = rintf(__fmul_rn(__fdiv_rn(value[w], largest), 7.f));
    const auto magnitude = static_cast<int32_t>(fabsf(rounded));
    const uint32_t plane[kLinearAsymPlanes] = {
        __ballot_sync(0xffffffffu, rounded > 0.f), __ballot_sync(0xffffffffu, magnitude & 1),
        __ballot_sync(0xffffffffu, magnitude & 2), __ballot_sync(0xffffffffu, magnitude & 4)};
#pragma unroll
    for (int p = 0; p < kLinearAsymPlanes; p++)
      if (lane_id() == p) planes[p * words + w] = plane[p];
  }
}

}  // namespace spotlight::gpu
