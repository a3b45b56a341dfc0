// Where a layer's parameters lie: one run of floats a layer, a run in it for each head.
// linear-asym: the key side of each KV head, then the query side of each query head. mlp: each
// query head, both sides. Index arithmetic shared by the CPU, the GPU and what is saved.
#pragma once

#include <cstdint>
#include <vector>

#include "train/draws.h"
#include "train/recipe.h"

namespace spotlight::train {

struct Layout {
  Layout(const Recipe& recipe, const ModelConfig& config);

  CodeKind encoder;
  int32_t query_heads, kv_heads, head_dim, bits;
  int32_t heads;  // that score and are scored together: KV heads (linear-asym), query heads (mlp)
  int32_t queries_a_head;       // whose codes are summed: the group, or 1
  int64_t head_size;            // floats of one head's parameters
  int64_t layer_size;           // of a layer's
  std::vector<int32_t> layers;  // that have codes

  int64_t size() const { return layer_size * static_cast<int64_t>(layers.size()); }
  int32_t kv_head(int32_t head) const { return head * queries_a_head * kv_heads / query_heads; }
  // Offsets in a layer.
  int64_t key(int32_t head) const { return head_size * head; }
  int64_t query(int32_t query_head) const {
    return head_size * (encoder == CodeKind::kMlp ? query_head : kv_heads + query_head);
  }
};

// What training starts from: random projections that the query side shares with its key side
// (linear-asym); small first and orthogonal-like second layers (mlp), as the paper's authors do.
void start_weights(const Layout& layout, const Recipe& recipe, float* weights);

}  // namespace spotlight::train
