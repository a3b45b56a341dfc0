#include "sampling/logprobs/logprobs.h"

#include "sampling/cut/cut.h"

namespace spotlight {

TokenLogprobs token_logprobs(const float* logits, int32_t vocab, double lse, int32_t token,
                             int32_t top, SamplingScratch& scratch) {
  TokenLogprobs result;
  result.token = token;
  result.logprob = static_cast<float>(logits[token] - lse);
  if (top > 0) {
    top_tokens(logits, vocab, top, scratch.tokens, scratch.floats);
    result.top_tokens = scratch.tokens;
    for (const int32_t best : result.top_tokens)
      result.top_logprobs.push_back(static_cast<float>(logits[best] - lse));
  }
  return result;
}

}  // namespace spotlight
