// Codes of cached blocks anew, from the stored keys: what a new artifact needs before it can score
// old tokens.
#include <algorithm>

#include "attention/kernels.h"
#include "attention/plan.h"
#include "attention/spotlight/encode/encoder.h"

namespace spotlight {

void rehash_blocks(const AttentionContext& context, int32_t plane, const int32_t* blocks,
                   const int32_t* filled, int32_t count, Team& team) {
  const KvArena& arena = *context.arena;
  const CodeEncoder& encoder = *code_encoder(context.encoders[plane]);
  const int64_t pieces = int64_t{count} * arena.layers * arena.kv_heads;
  Carver own(team.scratch);
  float* keys = own.take<float>(static_cast<size_t>(kBlockSize) * arena.head_dim);
  float* memory = own.take<float>(encoder.scratch_floats());
  for (int64_t i = pieces * team.ith / team.nth; i < pieces * (team.ith + 1) / team.nth; i++) {
    // Layer by layer, head by head, so that a thread's consecutive blocks share their weights.
    const auto at = static_cast<int32_t>(i % count);
    const auto head = static_cast<int32_t>(i / count % arena.kv_heads);
    const auto layer = static_cast<int32_t>(i / count / arena.kv_heads);
    const int32_t tokens = std::min(filled[at], kBlockSize);
    if (tokens <= 0 || !encoder.has_layer(layer)) continue;
    kernels().code.widen(arena.k_block(layer, blocks[at], head), tokens * arena.head_dim, keys);
    for (int32_t part = 0; part < encoder.parts(); part++)
      encoder.encode_keys(layer, head, part, keys, tokens,
                          arena.codes_block(plane, layer, blocks[at], head), arena.code_words,
                          memory);
  }
  team.meet();
}

}  // namespace spotlight
