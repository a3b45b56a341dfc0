// Threshold masks for avx512: two compares a block.
#include <immintrin.h>

#include "attention/spotlight/select/compare.h"

namespace spotlight::avx512 {

void compare_block(const CompareOp& op) {
  const __m512i threshold = _mm512_set1_epi16(op.threshold);
  const __m512i a = _mm512_loadu_si512(op.scores), b = _mm512_loadu_si512(op.scores + 32);
  *op.above = _mm512_cmpgt_epi16_mask(a, threshold) |
              static_cast<uint64_t>(_mm512_cmpgt_epi16_mask(b, threshold)) << 32;
  *op.equal = _mm512_cmpeq_epi16_mask(a, threshold) |
              static_cast<uint64_t>(_mm512_cmpeq_epi16_mask(b, threshold)) << 32;
}

}  // namespace spotlight::avx512
