// Log-probabilities of the raw logits, as the OpenAI API and vLLM report them: before bias,
// penalties and temperature.
#pragma once

#include <cstdint>

#include "sampling/sampling.h"

namespace spotlight {

// The token's log-probability and the `top` best tokens', best first. lse: ln of the sum of exp of
// the row.
TokenLogprobs token_logprobs(const float* logits, int32_t vocab, double lse, int32_t token,
                             int32_t top, SamplingScratch& scratch);

}  // namespace spotlight
