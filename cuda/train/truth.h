// What a code should find: for one query and head, the attention that each token gets (summed over
// the query heads that share a KV head), and the tokens that get most.
#pragma once

#include <cstdint>
#include <vector>

#include "train/draws.h"
#include "train/layout.h"
#include "train/recipe.h"

namespace spotlight::train {

// Keys and some queries of one layer of one text.
struct LayerInput {
  int32_t tokens = 0;
  int32_t rows = 0;
  const int32_t* positions = nullptr;  // [rows] ascending within what is worked on at once
  const float* q = nullptr;            // [rows, query_heads, head_dim] post-RoPE
  const float* k = nullptr;            // [tokens, kv_heads, head_dim] post-RoPE
};

// Floats from one head's dimension to the next in keys laid out [kv_heads, head_dim, tokens].
inline int64_t key_stride(int32_t tokens) { return (int64_t{tokens} + 15) / 16 * 16; }

// mass[i, j] of rows [from, from + count) for j <= positions[row], in [0, queries_a_head]; mass's
// rows are key_stride(tokens) apart. kt: this head's keys, [head_dim, key_stride], padded with
// zeros. scratch: count * queries_a_head * (key_stride + head_dim) floats.
void attention_mass(const Layout& layout, const LayerInput& input, int32_t head, int32_t from,
                    int32_t count, const float* kt, float* mass, float* scratch);

// The `wanted` <= count indexes of the largest values, ascending; of equal ones the newest (last).
// Values must not be negative. Returns the smallest value taken.
class TopFinder {
 public:
  float find(const float* values, int32_t count, int32_t wanted, int32_t* indexes);

 private:
  std::vector<int32_t> candidates_;
};

// One head's and query's pairs: tokens to be found and others, as the loss takes them.
struct PairDraw {
  std::vector<int32_t> top, other;  // [recipe.top], [recipe.other] positions; others to be found
                                    // are dropped
  std::vector<float> weight;        // [recipe.top]
};

// Draws pairs for the query at `position` from its attention. Empty when it sees fewer tokens than
// are to be found.
class PairDrawer {
 public:
  void draw(const Recipe& recipe, const Draws& draws, int32_t head, int32_t row, int32_t position,
            const float* mass, int32_t wanted, PairDraw& pairs);

 private:
  TopFinder finder_;
  std::vector<int32_t> top_, border_, near_;
};

// Weights of drawn tokens, from their attention: the square root over its mean, or 1 each.
void weigh(bool by_mass, const float* mass, PairDraw& pairs);

}  // namespace spotlight::train
