#include "attention/plan.h"

#include <algorithm>

#include "attention/policy.h"

namespace spotlight {

Plan plan_rows(const AttentionContext& context, int32_t layer, const RowView* rows,
               int32_t row_count, bool sparse_backend) {
  Plan plan;
  plan.dense.reserve(row_count);
  plan.sparse.reserve(row_count);
  for (int32_t i = 0; i < row_count; i++) {
    const RowView& row = rows[i];
    int32_t dense = row.tokens;
    if (sparse_backend && row.generated) {
      const LayerPolicy& policy = row.policies[layer];
      const Encoder* encoder = context.encoders[row.plane];
      const bool chooses = policy.selector || (encoder && encoder->has_layer(layer));
      if (policy.mode != LayerMode::kDense && chooses)
        dense = std::clamp(dense_until(policy) - row.position, 0, row.tokens);
    }
    if (dense > 0) plan.dense.push_back({&row, row.first, dense, row.position});
    if (dense == row.tokens) continue;
    auto& rest = row.policies[layer].selector ? plan.selected : plan.sparse;
    rest.push_back({&row, row.first + dense, row.tokens - dense, row.position + dense});
  }
  return plan;
}

int32_t split_ranges(int32_t items, int32_t threads, int32_t blocks) {
  constexpr int32_t kPiecesAThread = 4, kLeastBlocks = 4;
  if (threads == 1 || items >= kPiecesAThread * threads) return 1;
  int32_t ranges = (kPiecesAThread * threads + items - 1) / items;
  while (items * ranges % threads != 0) ranges++;
  ranges = std::min({ranges, (blocks + kLeastBlocks - 1) / kLeastBlocks, kMaxUnits / items});
  return std::max(ranges, 1);
}

}  // namespace spotlight
