// What the mlp's layers do value by value, between the products (kernels.h). Launches are
// asynchronous on `stream`; pointers are the device's. An Operand's inner is unused here; one
// without data stands for nothing to add.
#pragma once

#include "train/gpu/kernels.h"

namespace spotlight::train::kernels {

struct Values {
  int32_t heads = 0, rows = 0, columns = 0;
};

// before += bias; y = SiLU(before) [+ residual]. before, y [heads, rows, columns]; bias (head, 0,
// column).
void activate(const Values& values, const Operand& bias, const Operand& residual, float* before,
              float* y, cudaStream_t stream);
// z += bias [+ residual]; z's columns lie side by side.
void add_bias(const Values& values, const Result& z, const Operand& bias, const Operand& residual,
              cudaStream_t stream);
// dy = (dy [+ residual]) * SiLU'(before). before, dy [heads, rows, columns].
void silu_slope(const Values& values, const float* before, const Operand& residual, float* dy,
                cudaStream_t stream);
// Sums over each `part` rows, in their order: of head h and part p at out.data[h * out.outer + p *
// out.inner + column].
void sum_rows(const Values& values, const Operand& x, int32_t part, const Result& out,
              cudaStream_t stream);

}  // namespace spotlight::train::kernels
