// Every random number of a training: a pure function of (seed, purpose, step, layer, head, row,
// number), so that a resumed run and a GPU draw what an uninterrupted run on a CPU draws.
#pragma once

#include <cstdint>

#include "sampling/philox/philox.h"

namespace spotlight::train {

enum class Purpose : uint32_t { kWeights = 1, kRows, kTop, kOther, kBorder };

struct Draws {
  uint64_t seed = 0;
  Purpose purpose = Purpose::kWeights;
  uint32_t step = 0, layer = 0;

  // In [0, 2^32), number `n` of one head and row.
  SPOTLIGHT_BOTH uint32_t bits(uint32_t head, uint32_t row, uint32_t n) const {
    const PhiloxBlock block =
        philox4x32_10({n, row, (layer << 16) | head, step}, static_cast<uint32_t>(seed),
                      static_cast<uint32_t>(seed >> 32) ^ (static_cast<uint32_t>(purpose) << 24));
    return block[0];
  }
  // In [0, below): the high word of a product, biased by below / 2^32, which no training notices.
  SPOTLIGHT_BOTH int32_t below(int32_t below, uint32_t head, uint32_t row, uint32_t n) const {
    return static_cast<int32_t>(uint64_t{bits(head, row, n)} * static_cast<uint32_t>(below) >> 32);
  }
};

// Standard normal number `n` of a head.
float normal(const Draws& draws, uint32_t head, uint32_t n);

// Ascending positions of a step's queries, one in each of `count` equal parts of [first, tokens).
void draw_rows(const Draws& draws, int32_t first, int32_t tokens, int32_t count,
               int32_t* positions);

}  // namespace spotlight::train
