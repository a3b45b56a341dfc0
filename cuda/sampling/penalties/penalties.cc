#include "sampling/penalties/penalties.h"

#include <limits>

#include "sampling/exact.h"

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
      logits[token] = exact::repeat(logits[token], repetition);
    };
    for (const auto& entry : counts->prompt) repeat(entry.first);
    for (const auto& entry : counts->drawn)
      if (counts->prompt.count(entry.first) == 0) repeat(entry.first);
  }
  for (const auto& [token, count] : counts->drawn)
    logits[token] =
        exact::count_drawn(logits[token], params.frequency_penalty, params.presence_penalty, count);
}

}  // namespace spotlight
