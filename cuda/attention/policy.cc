#include "attention/policy.h"

#include <algorithm>
#include <climits>
#include <cmath>
#include <string>

#include "attention/flash/rows.h"
#include "error.h"

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

void check_context(const AttentionContext& context) {
  const KvArena& arena = *context.arena;
  const auto text = [](int32_t n) { return std::to_string(n); };
  if (arena.head_dim < 16 || arena.head_dim % 16 != 0)
    throw Error(kModelUnsupported,
                "head_dim is " + text(arena.head_dim) + ", attention takes multiples of 16");
  if (arena.kv_heads < 1 || context.query_heads % arena.kv_heads != 0 ||
      context.query_heads / arena.kv_heads > kMostGroup)
    throw Error(kModelUnsupported, text(context.query_heads) + " query heads over " +
                                       text(arena.kv_heads) + " KV heads: attention takes 1 to " +
                                       text(kMostGroup) + " a KV head");
  for (const Encoder* encoder : context.encoders)
    if (encoder && encoder->plane_words() > arena.code_words)
      throw Error(kArtifactMismatch, "the artifact needs " + text(32 * encoder->plane_words()) +
                                         " bits a token and KV head, the planes have " +
                                         text(32 * arena.code_words) +
                                         "; start with codeBits at least that");
}

}  // namespace spotlight
