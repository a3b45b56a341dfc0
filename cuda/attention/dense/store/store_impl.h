// store_rows over the vectors of SPOTLIGHT_SIMD, the header of one instruction set.
#pragma once

#include "attention/dense/store/store.h"
#include SPOTLIGHT_SIMD

namespace spotlight {
namespace {

inline void store_rows_impl(const StoreOp& op) {
  for (int32_t t = 0; t < op.tokens; t++)
    for (int32_t j = 0; j < op.dim; j += kWidth)
      store_half(op.to + static_cast<int64_t>(t) * op.dim + j,
                 load(op.from + t * op.from_stride + j));
}

}  // namespace
}  // namespace spotlight
