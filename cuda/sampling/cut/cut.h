// Tokens ordered by (logit descending, id ascending): min-p, top-k and top-p each keep a prefix of
// that order, so what is kept is always one cut, and no filter needs a full sort. The order is
// total: equal logits never leave a choice open.
#pragma once

#include <cstdint>
#include <limits>
#include <vector>

namespace spotlight {

// Keeps token i when logit > this logit, or equal and i <= id.
struct Cut {
  float logit = -std::numeric_limits<float>::infinity();
  int32_t id = std::numeric_limits<int32_t>::max();
  bool keeps(float x, int32_t i) const { return x > logit || (x == logit && i <= id); }
};

// The k first tokens in order; scratch is reused between calls. 0 < k.
void top_tokens(const float* x, int32_t count, int32_t k, std::vector<int32_t>& tokens,
                std::vector<float>& scratch);

// Each narrows `cut` by one filter; weights are exp(x - max), 0 for masked tokens.
void cut_min_p(float max, float min_p, Cut& cut);
void cut_top_k(const float* x, int32_t count, int32_t k, Cut& cut, std::vector<int32_t>& tokens,
               std::vector<float>& scratch);
// The shortest prefix of what `cut` keeps whose share of the kept weight reaches top_p; at least
// one token.
void cut_top_p(const float* x, const float* weights, int32_t count, float max, float top_p,
               Cut& cut, std::vector<int32_t>& tokens);

}  // namespace spotlight
