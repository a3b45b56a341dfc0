#include "attention/account.h"

#include <numeric>

#include "attention/counters.h"
#include "attention/spotlight/select/select.h"

namespace spotlight {
namespace {

// Whether a token that sees `seen` tokens retrieves in this layer, be its budget all of them.
bool retrieves(const AttentionContext& context, const RowView& row, int32_t layer, int32_t seen) {
  const LayerPolicy& policy = row.policies[layer];
  const Encoder* encoder = context.encoders[row.plane];
  return policy.mode != LayerMode::kDense &&
         (policy.selector || (encoder && encoder->has_layer(layer))) && seen >= policy.crossover;
}

}  // namespace

void count_rows(const AttentionContext& context, const AttentionShape& shape, int32_t layer,
                const RowView* rows, int32_t row_count, const Plan& plan) {
  if (!context.counters) return;
  AttentionCounters& counters = *context.counters;
  int64_t selected = 0, seen = 0, sparse = 0, fallback = 0;
  for (const Segment& segment : plan.sparse) {
    const int32_t each = shape.kv_heads * context.encoders[segment.row->plane]->selections();
    for (int32_t t = 0; t < segment.tokens; t++) {
      const SelectionRule rule =
          selection_rule(segment.row->policies[layer], segment.position + t + 1);
      selected += int64_t{each} * rule.k;
      seen += int64_t{each} * rule.context;
    }
  }
  for (int32_t i = 0; i < row_count; i++) {
    const RowView& row = rows[i];
    if (!row.generated || row.tokens == 0) continue;
    int32_t deciding = 0;  // the first layer that is not dense by its policy
    while (deciding < shape.layers && row.policies[deciding].mode == LayerMode::kDense) deciding++;
    if (layer != (deciding == shape.layers ? 0 : deciding)) continue;
    retrieves(context, row, layer, row.position + row.tokens) ? sparse++ : fallback++;
  }
  const auto add = [](std::atomic<int64_t>& to, int64_t n) {
    if (n) to.fetch_add(n, std::memory_order_relaxed);
  };
  add(counters.selected_tokens, selected);
  add(counters.context_tokens, seen);
  add(counters.sparse_rows, sparse);
  add(counters.dense_fallback_rows, fallback);
}

void trace_dense(const AttentionContext& context, const AttentionShape& shape, int32_t layer,
                 const Plan& plan) {
  for (const Segment& segment : plan.dense) {
    const RowView& row = *segment.row;
    if (!row.trace || segment.tokens < row.tokens) continue;
    const int32_t seen = row.position + row.tokens;
    const bool all = row.generated && retrieves(context, row, layer, seen);
    for (int32_t h = 0; h < shape.kv_heads; h++) {
      std::vector<int32_t>& out = row.trace[layer * shape.kv_heads + h];
      out.resize(all ? seen : 0);
      std::iota(out.begin(), out.end(), 0);
    }
  }
}

}  // namespace spotlight
