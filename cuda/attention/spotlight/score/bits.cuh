// The scores of 64 key codes by one warp: sum over planes p of 2^p popcount(agree & magnitude_p).
// Population counts run at a quarter of the rate of logic, so tensor cores count: a lane's word of
// its own two codes is a word of A as it was loaded, which makes a row of A one word of four codes;
// B keeps them apart, since its columns are zero but for one of the four. Of a code's bits that
// should be set and those that should not, common bits are counted each in a column of their own:
// popcount(agree & m) = popcount(code & sign & m) + popcount(~sign & m) - popcount(code & ~sign &
// m), and both columns of a code come out in the lane that holds it.
#pragma once

#include <cstdint>

#include "attention/spotlight/score/logic.cuh"

namespace spotlight::gpu {

// Codes of kWords words, a multiple of 4, 16-byte aligned.
template <int kWords, int kMagnitudes>
struct Scorer {
  static constexpr int kDepth = kWords == 4 ? 4 : 2;  // blocks a warp has on their way
  struct Code {
    uint32_t word[kWords];
  };

  __device__ void set_query(const uint32_t* query, int32_t) {
    const int32_t slot = threadIdx.x % 4, column = threadIdx.x % 32 / 4;
    const bool own = column / 2 == slot;
    always_ = 0;
#pragma unroll
    for (int i = 0; i < kWords; i++) {
      const uint32_t sign = query[i];
#pragma unroll
      for (int p = 0; p < kPlanes; p++) {
        const uint32_t magnitude = kMagnitudes ? query[(1 + p) * kWords + i] : ~0u;
        column_[p][i] = own ? magnitude & (column % 2 ? ~sign : sign) : 0;
        always_ += __popc(magnitude & ~sign) << p;
      }
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
  // Of both codes of every lane. Called by all lanes of a warp.
  __device__ void score(const Code (&codes)[2], int32_t (&scores)[2]) const {
    scores[0] = scores[1] = always_;
#pragma unroll
    for (int p = 0; p < kPlanes; p++) {
      int32_t common[4] = {};
#pragma unroll
      for (int i = 0; i < kWords; i += 2) {
        const uint32_t rows[4] = {codes[0].word[i], codes[1].word[i], codes[0].word[i + 1],
                                  codes[1].word[i + 1]};
        ptx::count_common(common, rows, column_[p][i], column_[p][i + 1]);
      }
      scores[0] += (common[0] - common[1]) << p;
      scores[1] += (common[2] - common[3]) << p;
    }
  }

 private:
  static constexpr int kPlanes = kMagnitudes ? kMagnitudes : 1;
  uint32_t column_[kPlanes][kWords];  // this lane's words of B
  int32_t always_;                    // the part that no code changes
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
  __device__ void score(const Code (&codes)[2], int32_t (&scores)[2]) const {
    for (int i = 0; i < 2; i++) scores[i] = score_words(codes[i].at, query, words, kMagnitudes);
  }

 private:
  const uint32_t* query;
  int32_t words;
};

}  // namespace spotlight::gpu
