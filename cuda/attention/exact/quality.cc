#include "attention/exact/quality.h"

#include <algorithm>
#include <iterator>
#include <vector>

#include "attention/exact/exact.h"
#include "attention/flash/row_list.h"

namespace spotlight {
namespace {

Quality quality_of(const KeyView& view, int32_t seen, const float* q, int32_t group,
                   const std::vector<int32_t>& selected) {
  if (selected.empty() || static_cast<int32_t>(selected.size()) >= seen) return {1, 1, 1};
  std::vector<float> scaled(static_cast<size_t>(group) * view.arena->head_dim);
  scale_query(q, group, view.arena->head_dim, scaled.data());
  Exact exact;
  exact.logits(view, seen, scaled.data(), group);
  exact.softmax();
  return compare_with_mass(exact.mass(), seen, group, selected);
}

}  // namespace

Quality compare_with_mass(const float* of, int32_t seen, int32_t group,
                          const std::vector<int32_t>& selected) {
  if (selected.empty() || static_cast<int32_t>(selected.size()) >= seen) return {1, 1, 1};
  std::vector<int32_t> best, both;
  TopPositions().find(of, 0, seen, static_cast<int32_t>(selected.size()), best);
  std::set_intersection(selected.begin(), selected.end(), best.begin(), best.end(),
                        std::back_inserter(both));
  const auto mass = [&](const std::vector<int32_t>& positions) {
    double sum = 0;
    for (const int32_t t : positions) sum += of[t];
    return static_cast<float>(sum / group);
  };
  const auto shared = static_cast<float>(both.size());
  return {shared / (2 * static_cast<float>(selected.size()) - shared), mass(selected), mass(best)};
}

void measure_quality(const AttentionContext& context, const LayerIo& io, const RowView* rows,
                     int32_t row_count, const Team& team) {
  const KvArena& arena = *context.arena;
  const int32_t group = context.query_heads / arena.kv_heads;
  int32_t piece = 0;
  for (int32_t i = 0; i < row_count; i++) {
    const RowView& row = rows[i];
    if (!row.quality || row.tokens == 0) continue;
    for (int32_t h = 0; h < arena.kv_heads; h++) {
      if (!row.quality->wants(io.layer, h) || piece++ % team.nth != team.ith) continue;
      const int32_t at = io.layer * arena.kv_heads + h;
      const float* q = io.q + (int64_t{row.first} + row.tokens - 1) * io.q_stride +
                       static_cast<int64_t>(h) * group * arena.head_dim;
      row.quality->results[static_cast<size_t>(at)] =
          quality_of({&arena, row.block_table, io.layer, h}, row.position + row.tokens, q, group,
                     row.trace[at]);
    }
  }
}

}  // namespace spotlight
