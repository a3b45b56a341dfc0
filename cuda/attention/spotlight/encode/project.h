// The arithmetic of codes: projections, activations, bits. Every instruction set gives the same
// bits: products are summed in the order of the input dimension and never fused (the build forbids
// contraction), only the output columns run in parallel.
#pragma once

#include <cstdint>

namespace spotlight {

enum class Activation : uint8_t {
  kNone,     // z = x W + b (+ residual)
  kSilu,     // z = SiLU(x W + b) (+ residual)
  kSoftsign  // z = s / (1 + |s|), s = x W; added to what z holds where `accumulate`
};

struct ProjectOp {
  const float* x;  // [rows, dim], a row x_stride floats on
  int64_t x_stride;
  int32_t rows, dim;
  const void* weight;  // [dim, columns] of a wider matrix, a row weight_stride elements on
  int64_t weight_stride;
  bool bf16;              // weight holds bf16, else f32
  int32_t columns;        // a multiple of 16
  const float* bias;      // [columns] or null
  const float* residual;  // [rows, columns], a row residual_stride floats on, or null
  int64_t residual_stride;
  Activation activation;
  bool accumulate;
  float* z;  // [rows, columns], a row z_stride floats on
  int64_t z_stride;
};

struct CodeKernels {
  void (*project)(const ProjectOp& op);
  // words[w] bit j = z[32 w + j] > 0, for bits / 32 words.
  void (*pack_signs)(const float* z, int32_t bits, uint32_t* words);
  // u to 4-bit integers round(u / max|u| * 7), half to even, the maximum clamped at 1e-6: planes
  // holds the sign words (1: positive), then three planes of magnitude bits, lowest first; bits /
  // 32 words each.
  void (*quantise)(const float* u, int32_t bits, uint32_t* planes);
  // A whole number of binary16 values to floats, and the way there and back for floats: what the
  // cache will hold.
  void (*widen)(const uint16_t* from, int32_t count, float* to);
  void (*round_through_half)(const float* from, int32_t count, float* to);
};

namespace portable {
CodeKernels code_kernels();
}
namespace avx2 {
CodeKernels code_kernels();
}
namespace avx512 {
CodeKernels code_kernels();
}

}  // namespace spotlight
