// exact_logits and softmax_mass over the vectors of SPOTLIGHT_SIMD, the header of one instruction
// set. The products are those of attend_rows: one row converted for up to four heads.
#pragma once

#include "attention/exact/logits.h"
#include "attention/flash/rows_impl.h"

namespace spotlight {
namespace {

inline void exact_logits_impl(const LogitsOp& op) {
  RowsOp rows = {};
  rows.q = op.q;
  rows.group = op.group;
  rows.dim = op.dim;
  rows.k = rows.v = op.k;
  rows.rows = op.rows;
  rows.count = op.count;
  rows.scratch = op.scratch;
  float* out = op.scratch;  // [group, kRowsChunk]
  for (int32_t h = 0; h < op.group; h += kHeadTile) {
    switch (op.group - h) {
      case 1:
        logits<1>(rows, h, out);
        break;
      case 2:
        logits<2>(rows, h, out);
        break;
      case 3:
        logits<3>(rows, h, out);
        break;
      default:
        logits<4>(rows, h, out);
    }
  }
  for (int32_t h = 0; h < op.group; h++)
    for (int32_t i = 0; i < op.count; i++) op.out[h * op.stride + i] = out[h * kRowsChunk + i];
}

inline void softmax_mass_impl(const MassOp& op) {
  const int32_t padded = (op.count + 15) / 16 * 16;
  for (int32_t h = 0; h < op.group; h++) {
    float* row = op.logits + h * op.stride;
    for (int32_t i = op.count; i < padded; i++) row[i] = -__builtin_inff();
    vf top = load(row);
    for (int32_t i = kWidth; i < padded; i += kWidth) top = max(top, load(row + i));
    const vf most = set1(max_lanes(top));
    vf total = zero();
    for (int32_t i = 0; i < padded; i += kWidth) {
      const vf weight = exp2_fast(sub(load(row + i), most));
      store(row + i, weight);
      total = add(total, weight);
    }
    const vf share = set1(1.0f / sum_lanes(total));
    for (int32_t i = 0; i < padded; i += kWidth) {
      const vf weight = mul(load(row + i), share);
      store(row + i, weight);
      if (op.mass) store(op.mass + i, h == 0 ? weight : add(load(op.mass + i), weight));
    }
    for (int32_t i = op.count; i < padded; i++) row[i] = 0.0f;
  }
  if (op.mass)
    for (int32_t i = op.count; i < padded; i++) op.mass[i] = 0.0f;
}

}  // namespace
}  // namespace spotlight
