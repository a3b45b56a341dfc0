#include "sampling/penalties/penalties.h"

#include <limits>

namespace spotlight {

void apply_penalties(float* logits, const SamplingParams& params, const TokenCounts* counts,
                     int64_t position) {
  for (const auto& [token, bias] : params.logit_bias) logits[token] += bias;
  if (position < params.banned_until) {
    for (const int32_t token : params.banned)
      logits[token] = -std::numeric_limits<float>::infinity();
  }
  if (counts == nullptr || !params.penalises()) return;
  const float repetition = params.repetition_penalty;
  if (repetition != 1) {
    const auto repeat = [&](int32_t token) {
      float& x = logits[token];
      x = x > 0 ? x / repetition : x * repetition;
    };
    for (const auto& entry : counts->prompt) repeat(entry.first);
    for (const auto& entry : counts->drawn)
      if (counts->prompt.count(entry.first) == 0) repeat(entry.first);
  }
  for (const auto& [token, count] : counts->drawn)
    logits[token] -= params.frequency_penalty * static_cast<float>(count) + params.presence_penalty;
}

}  // namespace spotlight
