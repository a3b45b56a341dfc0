// The trainer's matrix product: float32, one operand with any strides, sums in the order of k for
// every shape and thread. ggml multiplies a model's quantised rows; here the operands are columns
// of keys and gradients whose transposes would cost more than the products.
#pragma once

#include <cstdint>

namespace spotlight::train {

// Element (i, l) is data[i * row + l * column].
struct Strided {
  const float* data = nullptr;
  int64_t row = 0, column = 1;
};

// c[i * ldc + j] = sum over l < k of a(i, l) * b[l * ldb + j], for i < m, j < n; `add` adds to what
// c holds. n must be a multiple of 16.
void multiply(Strided a, const float* b, int64_t ldb, float* c, int64_t ldc, int32_t m, int32_t n,
              int32_t k, bool add);

// out[j * ldo + i] = in[i * ldi + j] for i < rows, j < columns.
void transpose(const float* in, int64_t ldi, float* out, int64_t ldo, int32_t rows,
               int32_t columns);

}  // namespace spotlight::train
