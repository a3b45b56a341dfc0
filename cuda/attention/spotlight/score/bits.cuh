// The score of one key code: sum over planes p of 2^p popcount(agree & magnitude_p). Population
// counts run at a quarter of the rate of logic, so words of equal weight are first added bit by bit
// (three words in, sum and carry out, one LOP3 each): 7 counts instead of 12 for 128 bits and three
// planes.
#pragma once

#include <cstdint>

#include "attention/spotlight/score/logic.cuh"

namespace spotlight::gpu {

// The population count of plane kPlane's words and `carry`, plus twice that of what is above.
template <int kPlane, int kPlanes, int kWords, int kCarry>
__device__ inline int32_t weigh(const uint32_t (&code)[kWords], const uint32_t (&differs)[kWords],
                                const uint32_t (&magnitude)[kPlanes][kWords],
                                const uint32_t (&carry)[kCarry < 1 ? 1 : kCarry]) {
  constexpr int kOwn = kPlane < kPlanes ? kWords : 0;
  constexpr int kAll = kOwn + kCarry;
  if constexpr (kAll == 0) {
    return 0;
  } else {
    uint32_t word[kAll];
    if constexpr (kOwn > 0) {
#pragma unroll
      for (int i = 0; i < kOwn; i++)
        word[i] = ptx::differing(code[i], differs[i], magnitude[kPlane][i]);
    }
#pragma unroll
    for (int i = 0; i < kCarry; i++) word[kOwn + i] = carry[i];
    constexpr int kAdders = (kAll - 1) / 2;
    uint32_t carried[kAdders < 1 ? 1 : kAdders] = {};
#pragma unroll
    for (int i = 0; i < kAdders; i++) {  // word[2 * i] is the sum so far
      const uint32_t a = word[2 * i], b = word[2 * i + 1], c = word[2 * i + 2];
      carried[i] = ptx::carry_bit(a, b, c);
      word[2 * i + 2] = ptx::sum_bit(a, b, c);
    }
    int32_t count = __popc(word[2 * kAdders]);
    if constexpr (kAll % 2 == 0) count += __popc(word[kAll - 1]);
    return count +
           2 * weigh<kPlane + 1, kPlanes, kWords, kAdders>(code, differs, magnitude, carried);
  }
}

// Scores codes of kWords words (a multiple of 4, 16-byte aligned) against a query in registers.
template <int kWords, int kMagnitudes>
struct Scorer {
  static constexpr int kDepth = kWords == 4 ? 4 : 2;  // blocks a warp has on their way
  struct Code {
    uint32_t word[kWords];
  };

  __device__ void set_query(const uint32_t* query, int32_t) {
#pragma unroll
    for (int i = 0; i < kWords; i++) {
      differs[i] = ~query[i];
#pragma unroll
      for (int p = 0; p < kPlanes; p++)
        magnitude[p][i] = kMagnitudes ? query[(1 + p) * kWords + i] : ~0u;
    }
  }
  __device__ Code load(const uint32_t* from) const {
    Code code;
#pragma unroll
    for (int i = 0; i < kWords; i += 4) {
      const uint4 four = __ldcs(reinterpret_cast<const uint4*>(from + i));
      code.word[i] = four.x, code.word[i + 1] = four.y;
      code.word[i + 2] = four.z, code.word[i + 3] = four.w;
    }
    return code;
  }
  __device__ int32_t score(const Code& code) const {
    const uint32_t none[1] = {};
    return weigh<0, kPlanes, kWords, 0>(code.word, differs, magnitude, none);
  }

 private:
  static constexpr int kPlanes = kMagnitudes ? kMagnitudes : 1;
  uint32_t differs[kWords];  // complement of the sign plane: where a code's bit differs, they agree
  uint32_t magnitude[kPlanes][kWords];
};

// Any width and alignment, word by word.
__device__ inline int32_t score_words(const uint32_t* code, const uint32_t* query, int32_t words,
                                      int32_t magnitudes) {
  int32_t score = 0;
  for (int32_t i = 0; i < words; i++) {
    const uint32_t agree = ~(code[i] ^ query[i]);
    if (magnitudes == 0) score += __popc(agree);
    for (int32_t p = 0; p < magnitudes; p++)
      score += __popc(agree & query[(1 + p) * words + i]) << p;
  }
  return score;
}

template <int kMagnitudes>
struct Scorer<0, kMagnitudes> {
  static constexpr int kDepth = 2;
  struct Code {
    const uint32_t* at;
  };
  __device__ void set_query(const uint32_t* from, int32_t count) { query = from, words = count; }
  __device__ Code load(const uint32_t* from) const { return {from}; }
  __device__ int32_t score(const Code& code) const {
    return score_words(code.at, query, words, kMagnitudes);
  }

 private:
  const uint32_t* query;
  int32_t words;
};

}  // namespace spotlight::gpu
