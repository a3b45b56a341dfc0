// Projections and bits over the vectors of SPOTLIGHT_SIMD, the header of one instruction set.
#pragma once

#include "attention/spotlight/encode/project.h"
#include SPOTLIGHT_SIMD
#include "attention/simd/exp2.h"

namespace spotlight {
namespace {

template <bool kBf16>
inline vf load_weight(const void* weight, int64_t at) {
  if constexpr (kBf16) return load_bf16(static_cast<const uint16_t*>(weight) + at);
  return load(static_cast<const float*>(weight) + at);
}

inline vf activate(Activation activation, vf s) {
  if (activation == Activation::kSilu)
    return div(s, add(set1(1.0f), exp2_exact(mul(s, set1(-1.44269504088896341f)))));
  if (activation == Activation::kSoftsign) return div(s, add(set1(1.0f), abs(s)));
  return s;
}

template <bool kBf16, int Rows, int Vectors>
inline void project_tile(const ProjectOp& op, int32_t row, int32_t column) {
  vf sum[Rows][Vectors];
  for (int r = 0; r < Rows; r++)
    for (int x = 0; x < Vectors; x++) sum[r][x] = zero();
  const float* left = op.x + row * op.x_stride;
  for (int32_t i = 0; i < op.dim; i++) {
    vf weight[Vectors];
    for (int x = 0; x < Vectors; x++)
      weight[x] = load_weight<kBf16>(op.weight, i * op.weight_stride + column + x * kWidth);
    for (int r = 0; r < Rows; r++) {
      const vf value = set1(left[r * op.x_stride + i]);
      for (int x = 0; x < Vectors; x++) sum[r][x] = add(sum[r][x], mul(value, weight[x]));
    }
  }
  for (int r = 0; r < Rows; r++) {
    for (int x = 0; x < Vectors; x++) {
      const int32_t at = column + x * kWidth;
      vf z = sum[r][x];
      if (op.bias) z = add(z, load(op.bias + at));
      z = activate(op.activation, z);
      if (op.residual) z = add(z, load(op.residual + (row + r) * op.residual_stride + at));
      float* to = op.z + (row + r) * op.z_stride + at;
      store(to, op.accumulate ? add(load(to), z) : z);
    }
  }
}

// Tiles of Vectors from `column` on; returns the column of what is left.
template <bool kBf16, int Rows, int Vectors>
inline int32_t project_columns(const ProjectOp& op, int32_t row, int32_t column) {
  for (; column + Vectors * kWidth <= op.columns; column += Vectors * kWidth)
    project_tile<kBf16, Rows, Vectors>(op, row, column);
  return column;
}

template <bool kBf16, int Rows>
inline void project_rows(const ProjectOp& op, int32_t row) {
  int32_t column = 0;
  if constexpr (Rows == 1) column = project_columns<kBf16, Rows, 2 * kTileVectors>(op, row, column);
  column = project_columns<kBf16, Rows, kTileVectors>(op, row, column);
  project_columns<kBf16, Rows, 1>(op, row, column);
}

template <bool kBf16>
inline void project_impl(const ProjectOp& op) {
  int32_t row = 0;
  for (; row + kTileRows <= op.rows; row += kTileRows) project_rows<kBf16, kTileRows>(op, row);
  for (; row < op.rows; row++) project_rows<kBf16, 1>(op, row);
}

void project(const ProjectOp& op) { op.bf16 ? project_impl<true>(op) : project_impl<false>(op); }

void pack_signs(const float* z, int32_t bits, uint32_t* words) {
  for (int32_t w = 0; w < bits / 32; w++) {
    uint32_t word = 0;
    for (int32_t i = 0; i < 32; i += kWidth) word |= positive_mask(load(z + 32 * w + i)) << i;
    words[w] = word;
  }
}

void quantise(const float* u, int32_t bits, uint32_t* planes) {
  vf top = zero();
  for (int32_t i = 0; i < bits; i += kWidth) top = max(top, abs(load(u + i)));
  const float largest = max_lanes(top);
  const vf limit = set1(largest < 1e-6f ? 1e-6f : largest);
  const int32_t words = bits / 32;
  for (int32_t w = 0; w < words; w++) {
    uint32_t sign = 0, magnitude[3] = {};
    for (int32_t i = 0; i < 32; i += kWidth) {
      const vf value = round(mul(div(load(u + 32 * w + i), limit), set1(7.0f)));
      sign |= positive_mask(value) << i;
      for (int p = 0; p < 3; p++) magnitude[p] |= magnitude_mask(value, p) << i;
    }
    planes[w] = sign;
    for (int p = 0; p < 3; p++) planes[(p + 1) * words + w] = magnitude[p];
  }
}

void widen(const uint16_t* from, int32_t count, float* to) {
  for (int32_t i = 0; i < count; i += kWidth) store(to + i, load_half(from + i));
}

void round_through_half(const float* from, int32_t count, float* to) {
  alignas(64) uint16_t rounded[kWidth];
  for (int32_t i = 0; i < count; i += kWidth) {
    store_half(rounded, load(from + i));
    store(to + i, load_half(rounded));
  }
}

inline CodeKernels code_kernels_impl() {
  return {project, pack_signs, quantise, widen, round_through_half};
}

}  // namespace
}  // namespace spotlight
