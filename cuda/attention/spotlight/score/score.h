// Integer scores of one block's 64 key codes against a query of signed small integers, by XNOR and
// population counts. What is stored is not the signed score but half of it, shifted: sum over
// planes p of 2^p popcount(agree & magnitude_p), which lies in [0, sum|u|]. The signed score is 2 *
// this - sum|u|, so order and ties are the same and every value is a histogram bin.
#pragma once

#include <cstdint>

namespace spotlight {

struct ScoreOp {
  const uint32_t* codes;  // the first code; [64] codes, token_words words apart
  int32_t token_words;    // words from a token's code to the next token's
  int32_t words;          // words of a code that count
  const uint32_t* query;  // sign [words], then `planes` magnitude planes [words] each, lowest first
  int32_t planes;         // 3 (4-bit query), 1 (binary query, magnitudes all ones)
  int16_t* out;           // [64]
};

namespace portable {
void score_block(const ScoreOp& op);
}
namespace avx2 {
void score_block(const ScoreOp& op);
}
namespace avx512 {
void score_block(const ScoreOp& op);
}

}  // namespace spotlight
