// What changes logits before a draw: bias, banned tokens, penalties. Works in place, only where
// there is something to change.
#pragma once

#include <cstdint>

#include "sampling/sampling.h"

namespace spotlight {

// Steps 2 and 3 of sampling.h. logits: [vocab]. Ids are in range (checked when the sequence opens).
void apply_penalties(float* logits, const SamplingParams& params, const TokenCounts* counts,
                     int64_t position);

}  // namespace spotlight
