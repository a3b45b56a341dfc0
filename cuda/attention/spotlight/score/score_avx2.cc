// Scores with the scalar POPCNT of AVX2-class CPUs, two 64-bit words at a time for 128-bit codes:
// six counts a token keep up with memory.
#include <immintrin.h>

#include <cstring>

#include "attention/spotlight/score/score_words.h"

namespace spotlight {
namespace {

inline uint64_t pair(const uint32_t* words) {
  uint64_t x;
  std::memcpy(&x, words, sizeof x);
  return x;
}

template <int Planes>
inline void score_128(const ScoreOp& op) {
  const uint64_t sign[2] = {~pair(op.query), ~pair(op.query + 2)};
  uint64_t magnitude[Planes][2];
  for (int p = 0; p < Planes; p++)
    for (int i = 0; i < 2; i++) magnitude[p][i] = pair(op.query + 4 * (p + 1) + 2 * i);
  for (int32_t t = 0; t < 64; t++) {
    const uint32_t* code = op.codes + static_cast<int64_t>(t) * op.token_words;
    const uint64_t low = pair(code) ^ sign[0], high = pair(code + 2) ^ sign[1];
    int64_t score = 0;
    for (int p = 0; p < Planes; p++)
      score += (_mm_popcnt_u64(low & magnitude[p][0]) + _mm_popcnt_u64(high & magnitude[p][1]))
               << p;
    op.out[t] = static_cast<int16_t>(score);
  }
}

}  // namespace

namespace avx2 {
void score_block(const ScoreOp& op) {
  if (op.words == 4 && op.planes == 3) return score_128<3>(op);
  if (op.words == 4 && op.planes == 1) return score_128<1>(op);
  score_words(op);
}
}  // namespace avx2
}  // namespace spotlight
