// attend_rows over the vectors of SPOTLIGHT_SIMD, the header of one instruction set.
// A K row is converted once for up to four query heads; dot products stay as vectors until kWidth
// rows are done and are then summed together, since a horizontal sum a row would cost more than its
// products.
#pragma once

#include "attention/flash/rows.h"
#include SPOTLIGHT_SIMD
#include "attention/simd/exp2.h"

namespace spotlight {
namespace {

constexpr int kHeadTile = 4;

// Logits of all rows for Heads query heads from head0 on. With Vectors > 0 the dim is Vectors *
// kWidth and the queries stay in registers.
template <int Heads, int Vectors>
inline void logits_of(const RowsOp& op, int32_t head0, float* out) {
  const int32_t dim = Vectors > 0 ? Vectors * kWidth : op.dim;
  const float* q = op.q + head0 * dim;
  float* part = op.scratch + kRowsChunk * op.group;
  vf query[Heads][Vectors > 0 ? Vectors : 1];
  if constexpr (Vectors > 0)
    for (int h = 0; h < Heads; h++)
      for (int x = 0; x < Vectors; x++) query[h][x] = load(q + h * dim + x * kWidth);
  for (int32_t i0 = 0; i0 < op.count; i0 += kWidth) {
    const int32_t n = op.count - i0 < kWidth ? op.count - i0 : kWidth;
    for (int32_t i = 0; i < n; i++) {
      const uint16_t* k = op.k + static_cast<size_t>(op.rows[i0 + i]) * dim;
      const uint16_t* v = op.v + static_cast<size_t>(op.rows[i0 + i]) * dim;
      vf dot[Heads];
      for (int h = 0; h < Heads; h++) dot[h] = zero();
      if constexpr (Vectors > 0) {
        for (int j = 0; j < Vectors; j++) {
          const vf x = load_half(k + j * kWidth);
          for (int h = 0; h < Heads; h++) dot[h] = fmadd(query[h][j], x, dot[h]);
        }
      } else {
        for (int32_t j = 0; j < dim; j += kWidth) {
          const vf x = load_half(k + j);
          for (int h = 0; h < Heads; h++) dot[h] = fmadd(load(q + h * dim + j), x, dot[h]);
        }
      }
      for (int h = 0; h < Heads; h++) store(part + (h * kWidth + i) * kWidth, dot[h]);
      for (int32_t j = 0; j < dim; j += 32) __builtin_prefetch(v + j);
    }
    // Lanes past n hold sums of an earlier tile or of nothing; the softmax below discards them.
    for (int h = 0; h < Heads; h++)
      store(out + (head0 + h) * kRowsChunk + i0, sum_rows(part + h * kWidth * kWidth));
  }
}

template <int Heads>
inline void logits(const RowsOp& op, int32_t head0, float* out) {
  if (kQueryVectors > 0 && op.dim == kQueryVectors * kWidth)
    logits_of<Heads, kQueryVectors>(op, head0, out);
  else
    logits_of<Heads, 0>(op, head0, out);
}

template <int Heads, int Vectors>
inline void accumulate(const RowsOp& op, int32_t head0, int32_t column, const float* p,
                       const float* scale) {
  const int32_t dim = op.dim;
  float* acc = op.acc + head0 * dim + column;
  vf sum[Heads][Vectors];
  for (int h = 0; h < Heads; h++)
    for (int x = 0; x < Vectors; x++)
      sum[h][x] = mul(load(acc + h * dim + x * kWidth), set1(scale[head0 + h]));
  for (int32_t i = 0; i < op.count; i++) {
    const uint16_t* v = op.v + static_cast<size_t>(op.rows[i]) * dim + column;
    vf weight[Heads];
    for (int h = 0; h < Heads; h++) weight[h] = set1(p[(head0 + h) * kRowsChunk + i]);
    for (int x = 0; x < Vectors; x++) {
      const vf value = load_half(v + x * kWidth);
      for (int h = 0; h < Heads; h++) sum[h][x] = fmadd(weight[h], value, sum[h][x]);
    }
  }
  for (int h = 0; h < Heads; h++)
    for (int x = 0; x < Vectors; x++) store(acc + h * dim + x * kWidth, sum[h][x]);
}

template <int Heads>
inline void values(const RowsOp& op, int32_t head0, const float* p, const float* scale) {
  int32_t column = 0;
  for (; column + kRowVectors * kWidth <= op.dim; column += kRowVectors * kWidth)
    accumulate<Heads, kRowVectors>(op, head0, column, p, scale);
  for (; column < op.dim; column += kWidth) accumulate<Heads, 1>(op, head0, column, p, scale);
}

inline void attend_rows_impl(const RowsOp& op) {
  float* p = op.scratch;  // [group, kRowsChunk]
  float scale[kMostGroup];
  for (int32_t h = 0; h < op.group; h += kHeadTile) {
    switch (op.group - h) {
      case 1:
        logits<1>(op, h, p);
        break;
      case 2:
        logits<2>(op, h, p);
        break;
      case 3:
        logits<3>(op, h, p);
        break;
      default:
        logits<4>(op, h, p);
    }
  }
  const int32_t padded = (op.count + kWidth - 1) / kWidth * kWidth;
  for (int32_t h = 0; h < op.group; h++) {
    float* row = p + h * kRowsChunk;
    for (int32_t i = op.count; i < padded; i++) row[i] = -__builtin_inff();
    if (op.bias)
      for (int32_t i = 0; i < op.count; i++) row[i] += op.bias[i];
    vf top = load(row);
    for (int32_t i = kWidth; i < padded; i += kWidth) top = max(top, load(row + i));
    const float seen = op.max[h], now = max_lanes(top), next = seen > now ? seen : now;
    vf total = zero();
    for (int32_t i = 0; i < padded; i += kWidth) {
      const vf weight = exp2_fast(sub(load(row + i), set1(next)));
      store(row + i, weight);
      total = add(total, weight);
    }
    float before[kWidth];
    store(before, exp2_fast(set1(seen - next)));
    scale[h] = seen == -__builtin_inff() ? 0.0f : before[0];
    op.max[h] = next;
    op.sum[h] = op.sum[h] * scale[h] + sum_lanes(total);
  }
  for (int32_t h = 0; h < op.group; h += kHeadTile) {
    switch (op.group - h) {
      case 1:
        values<1>(op, h, p, scale);
        break;
      case 2:
        values<2>(op, h, p, scale);
        break;
      case 3:
        values<3>(op, h, p, scale);
        break;
      default:
        values<4>(op, h, p, scale);
    }
  }
}

}  // namespace
}  // namespace spotlight
