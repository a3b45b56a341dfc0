// 16-bit floats on the GPU: what the cache holds (T) to fp32 and back, eight at a time, and RoPE as
// the CPU does it. Products and sums that must give the CPU's very bits are never contracted.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>

namespace spotlight::gpu {

__device__ inline float widen(__nv_bfloat16 x) { return __bfloat162float(x); }
__device__ inline float widen(__half x) { return __half2float(x); }

template <typename T>
__device__ T narrow(float x);
template <>
__device__ inline __nv_bfloat16 narrow<__nv_bfloat16>(float x) {
  return __float2bfloat16_rn(x);
}
template <>
__device__ inline __half narrow<__half>(float x) {
  return __float2half_rn(x);
}

// What one 16-byte access moves.
template <typename T>
struct alignas(16) Eight {
  T value[8];
};

template <typename T>
__device__ inline Eight<T> load_eight(const T* from) {
  union {
    uint4 bits;
    Eight<T> eight;
  } moved{*reinterpret_cast<const uint4*>(from)};
  return moved.eight;
}
template <typename T>
__device__ inline void store_eight(T* to, const Eight<T>& eight) {
  union {
    Eight<T> eight;
    uint4 bits;
  } moved{eight};
  *reinterpret_cast<uint4*>(to) = moved.bits;
}

// Sixteen dimensions of a head that RoPE turns together: piece i holds dimensions [8 i, 8 i + 8)
// and those half a head on. A head has head_dim / 16 pieces.
template <typename T>
struct RopePiece {
  Eight<T> low, high;
};

struct RopeAngles {
  float cosine[8], sine[8];
};

// angles: one token's [head_dim] row, cosines then sines.
__device__ inline RopeAngles load_angles(const float* angles, int32_t half, int32_t piece) {
  RopeAngles result;
#pragma unroll
  for (int i = 0; i < 2; i++) {
    const float4 c = *reinterpret_cast<const float4*>(angles + 8 * piece + 4 * i);
    const float4 s = *reinterpret_cast<const float4*>(angles + half + 8 * piece + 4 * i);
    result.cosine[4 * i] = c.x, result.cosine[4 * i + 1] = c.y;
    result.cosine[4 * i + 2] = c.z, result.cosine[4 * i + 3] = c.w;
    result.sine[4 * i] = s.x, result.sine[4 * i + 1] = s.y;
    result.sine[4 * i + 2] = s.z, result.sine[4 * i + 3] = s.w;
  }
  return result;
}

template <typename T>
__device__ inline RopePiece<T> load_piece(const T* head, int32_t half, int32_t piece) {
  return {load_eight(head + 8 * piece), load_eight(head + half + 8 * piece)};
}

template <typename T>
__device__ inline void store_piece(T* head, int32_t half, int32_t piece, const RopePiece<T>& x) {
  store_eight(head + 8 * piece, x.low);
  store_eight(head + half + 8 * piece, x.high);
}

// rope_rotate of model/rope.h, rounded to T.
template <typename T>
__device__ inline void rotate(RopePiece<T>& x, const RopeAngles& angles) {
#pragma unroll
  for (int i = 0; i < 8; i++) {
    const float a = widen(x.low.value[i]), b = widen(x.high.value[i]);
    const float c = angles.cosine[i], s = angles.sine[i];
    x.low.value[i] = narrow<T>(__fsub_rn(__fmul_rn(a, c), __fmul_rn(b, s)));
    x.high.value[i] = narrow<T>(__fadd_rn(__fmul_rn(b, c), __fmul_rn(a, s)));
  }
}

}  // namespace spotlight::gpu
