// Rotary positions in half-split order: dimension i turns with i + head_dim / 2. Frequencies are
// made once from the config, angles once a step (in double: at 128K tokens a float angle is off by
// a hundredth), so layers only multiply.
#pragma once

#include <cstdint>
#include <vector>

#include "model/config.h"

namespace spotlight {

struct RopeFrequencies {
  std::vector<double> inverse;  // [head_dim / 2] radians a token
  float magnitude = 1.f;        // multiplies cosine and sine (YaRN's attention factor)
};

// Plain, linear, llama3 and YaRN as Hugging Face computes them. Throws MODEL_UNSUPPORTED for
// freq_factors of a wrong length.
RopeFrequencies rope_frequencies(const RopeConfig& rope, int32_t head_dim);

// table: [tokens, head_dim] floats, each row cosines then sines of positions[t].
void rope_table(const RopeFrequencies& frequencies, const int32_t* positions, int32_t tokens,
                float* table);

// Turns `heads` consecutive heads of one token in place. x: [heads, head_dim]; angles: one row of
// the table.
void rope_rotate(float* x, int32_t heads, int32_t head_dim, const float* angles);

}  // namespace spotlight
