// attend_tile over the vectors of SPOTLIGHT_SIMD, the header of one instruction set.
// Both products run on one register tile, C[rows, columns] += A[rows, n] B[n, columns]: S = Q Kt
// with keys as columns, O += P V.
#pragma once

#include "attention/flash/tile.h"
#include SPOTLIGHT_SIMD
#include "attention/simd/exp2.h"

namespace spotlight {
namespace {

constexpr int kKeys = 64;

// C = scale * C + A B for Rows x (Vectors * kWidth); C is taken as zero where scale is null.
template <int Rows, int Vectors>
inline void multiply(const float* a, int64_t a_stride, const float* b, int64_t b_stride, int32_t n,
                     float* c, int64_t c_stride, const float* scale) {
  vf sum[Rows][Vectors];
  for (int r = 0; r < Rows; r++)
    for (int x = 0; x < Vectors; x++)
      sum[r][x] = scale ? mul(load(c + r * c_stride + x * kWidth), set1(scale[r])) : zero();
  for (int32_t i = 0; i < n; i++) {
    vf row[Vectors];
    for (int x = 0; x < Vectors; x++) row[x] = load(b + i * b_stride + x * kWidth);
    for (int r = 0; r < Rows; r++) {
      const vf left = set1(a[r * a_stride + i]);
      for (int x = 0; x < Vectors; x++) sum[r][x] = fmadd(left, row[x], sum[r][x]);
    }
  }
  for (int r = 0; r < Rows; r++)
    for (int x = 0; x < Vectors; x++) store(c + r * c_stride + x * kWidth, sum[r][x]);
}

inline void multiply_columns(const float* a, int64_t a_stride, const float* b, int32_t columns,
                             int32_t n, float* c, const float* scale) {
  int32_t x = 0;
  for (; x + kTileVectors * kWidth <= columns; x += kTileVectors * kWidth)
    multiply<kTileRows, kTileVectors>(a, a_stride, b + x, columns, n, c + x, columns, scale);
  for (; x < columns; x += kWidth)
    multiply<kTileRows, 1>(a, a_stride, b + x, columns, n, c + x, columns, scale);
}

// Logits of one query row over 64 keys, of which the first `seen` are visible, become weights;
// returns what earlier sums shrink by.
inline float soften(float* s, int32_t seen, float* running_max, float* running_sum) {
  if (seen <= 0) {
    for (int32_t i = 0; i < kKeys; i += kWidth) store(s + i, zero());
    return 1.0f;
  }
  for (int32_t i = seen; i < kKeys; i++) s[i] = -__builtin_inff();
  vf top = load(s);
  for (int32_t i = kWidth; i < kKeys; i += kWidth) top = max(top, load(s + i));
  const float before = *running_max, now = max_lanes(top), next = before > now ? before : now;
  vf total = zero();
  for (int32_t i = 0; i < kKeys; i += kWidth) {
    const vf weight = exp2_fast(sub(load(s + i), set1(next)));
    store(s + i, weight);
    total = add(total, weight);
  }
  float shrink = 1.0f;
  if (next > before) {
    float lanes[kWidth];
    store(lanes, exp2_fast(set1(before - next)));
    shrink = before == -__builtin_inff() ? 0.0f : lanes[0];
  }
  *running_max = next;
  *running_sum = *running_sum * shrink + sum_lanes(total);
  return shrink;
}

inline void attend_tile_impl(const TileOp& op) {
  const int32_t dim = op.dim, rows = op.tokens * op.group;
  const int32_t padded = (rows + kTileRows - 1) / kTileRows * kTileRows;
  float* q = op.scratch;                   // [padded, dim], row = token * group + head
  float* o = q + padded * dim;             // [padded, dim]
  float* kt = o + padded * dim;            // [dim, 64]
  float* v = kt + kKeys * dim;             // [64, dim]
  float* s = v + kKeys * dim;              // [kTileRows, 64]
  float* row_max = s + kTileRows * kKeys;  // [padded]
  float* row_sum = row_max + padded;       // [padded]
  const vf scale = set1(1.44269504088896341f / __builtin_sqrtf(static_cast<float>(dim)));
  for (int32_t r = 0; r < padded; r++) {
    const float* from = op.q + (r / op.group) * op.q_stride + (r % op.group) * dim;
    for (int32_t j = 0; j < dim; j += kWidth) {
      store(q + r * dim + j, r < rows ? mul(load(from + j), scale) : zero());
      store(o + r * dim + j, zero());
    }
    row_max[r] = -__builtin_inff();
    row_sum[r] = 0.0f;
  }
  const int32_t last = op.position + op.tokens - 1;
  for (int32_t block = 0; block * kKeys <= last; block++) {
    const int64_t at = op.block_table[block] * op.block_stride;
    for (int32_t i = 0; i < kKeys; i += kWidth)
      for (int32_t j = 0; j < dim; j += kWidth)
        transpose_half(op.k + at + i * dim + j, dim, kt + j * kKeys + i, kKeys);
    for (int32_t i = 0; i < kKeys * dim; i += kWidth) store(v + i, load_half(op.v + at + i));
    // Rows before the block see none of it.
    const int32_t first_token = block * kKeys > op.position ? block * kKeys - op.position : 0;
    const int32_t first_row = first_token * op.group / kTileRows * kTileRows;
    // Keys of the open block that no query sees may be stale memory; NaN there must not meet a zero
    // weight.
    const int32_t filled = last + 1 - block * kKeys;
    for (int32_t i = filled; i < kKeys; i++)
      for (int32_t j = 0; j < dim; j += kWidth) store(v + i * dim + j, zero());
    // The next block comes from memory while this one is computed, a share with every strip of
    // rows.
    const bool more = (block + 1) * kKeys <= last;
    const int64_t next = more ? op.block_table[block + 1] * op.block_stride : 0;
    const int32_t elements = more ? kKeys * dim : 0, strips = (padded - first_row) / kTileRows;
    const int32_t share = (elements / strips + 31) / 32 * 32;
    for (int32_t r = first_row, ahead = 0; r < padded; r += kTileRows) {
      for (const int32_t end = ahead + share; ahead < end && ahead < elements; ahead += 32) {
        __builtin_prefetch(op.k + next + ahead);
        __builtin_prefetch(op.v + next + ahead);
      }
      multiply_columns(q + r * dim, dim, kt, kKeys, dim, s, nullptr);
      float shrink[kTileRows];
      for (int32_t i = 0; i < kTileRows; i++) {
        const int32_t token = (r + i) / op.group;
        const int32_t seen = op.position + token + 1 - block * kKeys;
        shrink[i] = soften(s + i * kKeys, r + i < rows ? (seen < kKeys ? seen : kKeys) : 0,
                           row_max + r + i, row_sum + r + i);
      }
      multiply_columns(s, kKeys, v, dim, kKeys, o + r * dim, shrink);
    }
  }
  for (int32_t r = 0; r < rows; r++) {
    float* to = op.out + (r / op.group) * op.out_stride + (r % op.group) * dim;
    const vf inverse = set1(1.0f / row_sum[r]);
    for (int32_t j = 0; j < dim; j += kWidth) store(to + j, mul(load(o + r * dim + j), inverse));
  }
}

}  // namespace
}  // namespace spotlight
