// Scores with AVX512-VPOPCNTDQ: four 128-bit codes a vector, sixteen tokens a round.
// GCC 12 warns of its own intrinsics' undefined operands (bug 105593).
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#include <immintrin.h>

#include "attention/spotlight/score/score_words.h"

namespace spotlight {
namespace {

// Weighted counts of agreement, one a 64-bit half of each code.
template <int Planes>
inline __m512i count(__m512i codes, __m512i sign, const __m512i* magnitude) {
  constexpr int kXnor = 0xc3;  // ~(a ^ b), whatever c
  const __m512i agree = _mm512_ternarylogic_epi64(codes, sign, sign, kXnor);
  __m512i sum = _mm512_popcnt_epi64(_mm512_and_si512(agree, magnitude[0]));
  for (int p = 1; p < Planes; p++)
    sum = _mm512_add_epi64(
        sum, _mm512_slli_epi64(_mm512_popcnt_epi64(_mm512_and_si512(agree, magnitude[p])), p));
  return sum;
}

inline __m512i load_codes(const uint32_t* codes, int64_t token_words) {
  if (token_words == 4) return _mm512_loadu_si512(codes);
  const auto quarter = [&](int64_t i) {
    return _mm_loadu_si128(reinterpret_cast<const __m128i*>(codes + i * token_words));
  };
  __m512i four = _mm512_castsi128_si512(quarter(0));
  four = _mm512_inserti32x4(four, quarter(1), 1);
  four = _mm512_inserti32x4(four, quarter(2), 2);
  return _mm512_inserti32x4(four, quarter(3), 3);
}

template <int Planes>
inline void score_128(const ScoreOp& op) {
  const auto plane = [&](int p) {
    return _mm512_broadcast_i32x4(
        _mm_loadu_si128(reinterpret_cast<const __m128i*>(op.query + 4 * p)));
  };
  const __m512i sign = plane(0);
  __m512i magnitude[Planes];
  for (int p = 0; p < Planes; p++) magnitude[p] = plane(p + 1);
  const __m512i even = _mm512_set_epi64(14, 12, 10, 8, 6, 4, 2, 0);
  const __m512i odd = _mm512_set_epi64(15, 13, 11, 9, 7, 5, 3, 1);
  for (int32_t t = 0; t < 64; t += 8) {
    const uint32_t* codes = op.codes + static_cast<int64_t>(t) * op.token_words;
    const __m512i a = count<Planes>(load_codes(codes, op.token_words), sign, magnitude);
    const __m512i b =
        count<Planes>(load_codes(codes + 4 * op.token_words, op.token_words), sign, magnitude);
    const __m512i eight = _mm512_add_epi64(_mm512_permutex2var_epi64(a, even, b),
                                           _mm512_permutex2var_epi64(a, odd, b));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(op.out + t), _mm512_cvtepi64_epi16(eight));
  }
}

}  // namespace

namespace avx512 {
void score_block(const ScoreOp& op) {
  if (op.words == 4 && op.planes == 3) return score_128<3>(op);
  if (op.words == 4 && op.planes == 1) return score_128<1>(op);
  score_words(op);
}
}  // namespace avx512
}  // namespace spotlight
