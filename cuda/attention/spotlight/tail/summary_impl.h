// summarise over the vectors of SPOTLIGHT_SIMD, the header of one instruction set.
#pragma once

#include "attention/spotlight/tail/summary.h"
#include SPOTLIGHT_SIMD

namespace spotlight {
namespace {

inline void summarise_impl(const SummaryOp& op) {
  for (int32_t j = 0; j < op.dim; j += kWidth) {
    vf sum = zero();
    for (int32_t i = 0; i < 64; i++) sum = add(sum, load_half(op.rows + i * op.dim + j));
    store_half(op.mean + j, mul(sum, set1(1.0f / 64.0f)));
  }
}

}  // namespace
}  // namespace spotlight
