// Four float lanes in plain GCC/Clang vector types: the portable twin of avx2.h and avx512.h, and
// the only one on other CPUs. Everything has internal linkage, here and in every *_impl.h over it:
// a function that leaked from a file compiled for AVX-512 could be the copy the linker keeps, and
// would then fault on a CPU without it.
#pragma once

#include <cstdint>
#include <cstring>

#include "attention/half.h"

namespace spotlight {
namespace {

using vf = float __attribute__((vector_size(16)));
using vi = int32_t __attribute__((vector_size(16)));
constexpr int kWidth = 4;
// Register tile of the matrix kernels: rows by vectors, within sixteen registers.
constexpr int kTileRows = 4;
constexpr int kTileVectors = 2;
// Vectors of the output that attention over rows keeps in registers at a time.
constexpr int kRowVectors = 2;
// Vectors of each query head kept in registers over all rows, for a dim of just so many; 0: too few
// registers.
constexpr int kQueryVectors = 0;

inline vf load(const float* p) {
  vf v;
  std::memcpy(&v, p, sizeof v);
  return v;
}
inline void store(float* p, vf v) { std::memcpy(p, &v, sizeof v); }
inline vf set1(float x) { return vf{x, x, x, x}; }
inline vf zero() { return vf{}; }
inline vf load_half(const uint16_t* p) {
  const vi h = {p[0], p[1], p[2], p[3]};
  const vi magnitude = (h & 0x7fff) << 13;
  // Normal numbers need another bias, subnormal ones a subtraction, infinity and NaN their exponent
  // back.
  const vf normal = reinterpret_cast<vf>(magnitude + (112 << 23));
  const vf small = reinterpret_cast<vf>(magnitude + (113 << 23)) - 6.103515625e-05f;
  const vi is_small = magnitude < (1 << 23), is_special = magnitude >= (31 << 23);
  const vi is_nan = magnitude > (31 << 23);
  vi bits = (reinterpret_cast<vi>(small) & is_small) | (reinterpret_cast<vi>(normal) & ~is_small);
  bits |= (is_special & 0x7f800000) | (is_nan & 0x400000) | (h & 0x8000) << 16;
  return reinterpret_cast<vf>(bits);
}
inline void store_half(uint16_t* p, vf v) {
  for (int i = 0; i < kWidth; i++) p[i] = float_to_half(v[i]);
}
inline vf load_bf16(const uint16_t* p) {
  const vi bits = {p[0] << 16, p[1] << 16, p[2] << 16, p[3] << 16};
  vf v;
  std::memcpy(&v, &bits, sizeof v);
  return v;
}
inline vf add(vf a, vf b) { return a + b; }
inline vf sub(vf a, vf b) { return a - b; }
inline vf mul(vf a, vf b) { return a * b; }
inline vf div(vf a, vf b) { return a / b; }
inline vf fmadd(vf a, vf b, vf c) { return a * b + c; }
inline vf max(vf a, vf b) {  // b where either is NaN, as x86 does
  const vi greater = a > b;
  return reinterpret_cast<vf>((reinterpret_cast<vi>(a) & greater) |
                              (reinterpret_cast<vi>(b) & ~greater));
}
inline vf min(vf a, vf b) {
  const vi less = a < b;
  return reinterpret_cast<vf>((reinterpret_cast<vi>(a) & less) | (reinterpret_cast<vi>(b) & ~less));
}
inline vf abs(vf a) {
  return reinterpret_cast<vf>(reinterpret_cast<vi>(a) &
                              vi{0x7fffffff, 0x7fffffff, 0x7fffffff, 0x7fffffff});
}
// Half to even, for |a| < 2^22.
inline vf round(vf a) {
  const vf magic = set1(12582912.0f);
  return (a + magic) - magic;
}
// a * 2^n for an integral n in [-126, 127] and a result that is normal.
inline vf scale_by_power(vf a, vf n) {
  const vi exponent = __builtin_convertvector(n, vi) << 23;
  return reinterpret_cast<vf>(reinterpret_cast<vi>(a) + exponent);
}
inline float sum_lanes(vf a) { return (a[0] + a[1]) + (a[2] + a[3]); }
inline float max_lanes(vf a) {
  const float x = a[0] > a[1] ? a[0] : a[1], y = a[2] > a[3] ? a[2] : a[3];
  return x > y ? x : y;
}
// Bit i: lane i > 0.
inline uint32_t positive_mask(vf a) {
  return (a[0] > 0 ? 1u : 0u) | (a[1] > 0 ? 2u : 0u) | (a[2] > 0 ? 4u : 0u) | (a[3] > 0 ? 8u : 0u);
}
// Bit i: bit `bit` of |lane i| as an integer.
inline uint32_t magnitude_mask(vf a, int bit) {
  const vi n = __builtin_convertvector(abs(a), vi) >> bit;
  return (n[0] & 1u) | (n[1] & 1u) << 1 | (n[2] & 1u) << 2 | (n[3] & 1u) << 3;
}
// Lane i: the sum of part[i * kWidth .. + kWidth).
inline vf sum_rows(const float* part) {
  return vf{sum_lanes(load(part)), sum_lanes(load(part + 4)), sum_lanes(load(part + 8)),
            sum_lanes(load(part + 12))};
}
// dst[i][j] = src[j][i] for a kWidth x kWidth square.
inline void transpose_half(const uint16_t* src, int src_stride, float* dst, int dst_stride) {
  for (int j = 0; j < kWidth; j++)
    for (int i = 0; i < kWidth; i++)
      dst[i * dst_stride + j] = half_to_float(src[j * src_stride + i]);
}

}  // namespace
}  // namespace spotlight
