#include "attention/policy.h"

#include <algorithm>
#include <climits>
#include <cmath>

namespace spotlight {

int32_t budget(const LayerPolicy& policy, int32_t context) {
  // A fraction such as 0.02 is a little less as a float; the factor keeps 2% of 50 at 1.
  const double share = std::floor(static_cast<double>(policy.fraction) * (1 + 1e-7) * context);
  return std::min(context, std::max(policy.min_tokens, static_cast<int32_t>(share)));
}

int32_t dense_until(const LayerPolicy& policy) {
  if (policy.fraction >= 1.0f) return INT_MAX;
  return std::max({policy.crossover - 1, policy.min_tokens,
                   std::max(policy.sink, 0) + std::max(policy.recent, 0)});
}

}  // namespace spotlight
