// Threshold masks for avx2: two vectors of sixteen scores pack to one mask of 32 bits.
#include <immintrin.h>

#include "attention/spotlight/select/compare.h"

namespace spotlight::avx2 {

void compare_block(const CompareOp& op) {
  const __m256i threshold = _mm256_set1_epi16(op.threshold);
  uint64_t above = 0, equal = 0;
  for (int i = 0; i < 64; i += 32) {
    const __m256i a = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(op.scores + i));
    const __m256i b = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(op.scores + i + 16));
    const auto mask = [](__m256i x, __m256i y) {  // packing interleaves 128-bit lanes; undo it
      const __m256i bytes = _mm256_permute4x64_epi64(_mm256_packs_epi16(x, y), 0xd8);
      return static_cast<uint64_t>(static_cast<uint32_t>(_mm256_movemask_epi8(bytes)));
    };
    above |= mask(_mm256_cmpgt_epi16(a, threshold), _mm256_cmpgt_epi16(b, threshold)) << i;
    equal |= mask(_mm256_cmpeq_epi16(a, threshold), _mm256_cmpeq_epi16(b, threshold)) << i;
  }
  *op.above = above;
  *op.equal = equal;
}

}  // namespace spotlight::avx2
