// Scores word by word, for the widths that have no kernel of their own. Compiled for the
// instruction set of the file that includes it.
#pragma once

#include "attention/spotlight/score/score.h"

namespace spotlight {
namespace {

inline void score_words(const ScoreOp& op) {
  for (int32_t t = 0; t < 64; t++) {
    const uint32_t* code = op.codes + static_cast<int64_t>(t) * op.token_words;
    int32_t score = 0;
    for (int32_t w = 0; w < op.words; w++) {
      const uint32_t agree = ~(code[w] ^ op.query[w]);
      for (int32_t p = 0; p < op.planes; p++)
        score += __builtin_popcount(agree & op.query[(p + 1) * op.words + w]) << p;
    }
    op.out[t] = static_cast<int16_t>(score);
  }
}

}  // namespace
}  // namespace spotlight
