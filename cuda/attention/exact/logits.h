// Exact logits of one query token over cached rows, and what a softmax over them keeps: what
// quality is measured against, and what selectors that look at keys themselves are made of. Units
// are log2 throughout, as in flash/rows.
#pragma once

#include <cstdint>

namespace spotlight {

struct LogitsOp {
  const float* q;        // [group, dim], scaled by log2(e)/sqrt(dim)
  int32_t group, dim;    // dim is a multiple of 16
  const uint16_t* k;     // binary16; row r starts at r * dim
  const uint32_t* rows;  // [count] row indices
  int32_t count;         // 1..64 (kRowsChunk)
  float* out;            // [group, stride]: out[h * stride + i] is row i's
  int64_t stride;
  float* scratch;  // rows_scratch(group) floats
};

// Softmax of each head over its logits, in place, and the sum over the heads of what each row gets.
struct MassOp {
  float* logits;   // [group, stride]; padded here with zeros up to a multiple of 16
  int64_t stride;  // a multiple of 16, at least count rounded up to one
  int32_t group, count;
  float* mass;  // [count rounded up to a multiple of 16] or null
};

namespace portable {
void exact_logits(const LogitsOp& op);
void softmax_mass(const MassOp& op);
}  // namespace portable
namespace avx2 {
void exact_logits(const LogitsOp& op);
void softmax_mass(const MassOp& op);
}  // namespace avx2
namespace avx512 {
void exact_logits(const LogitsOp& op);
void softmax_mass(const MassOp& op);
}  // namespace avx512

}  // namespace spotlight
