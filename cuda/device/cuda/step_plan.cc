#include "device/cuda/step_plan.h"

#include <algorithm>

#include "attention/spotlight/select/select.h"

namespace spotlight {
namespace {

gpu::Query query_of(const RowView& row, int32_t token, int32_t context) {
  gpu::Query query;
  query.token = token;
  query.context = context;
  query.plane = row.plane;
  query.seat = row.seat;
  return query;
}

gpu::Query sparse_query(const Segment& segment, int32_t layer, int32_t t) {
  const LayerPolicy& policy = segment.row->policies[layer];
  const SelectionRule rule = selection_rule(policy, segment.position + t + 1);
  gpu::Query query = query_of(*segment.row, segment.first + t, rule.context);
  query.mode = policy.mode == LayerMode::kSparseTail ? gpu::kQueryTail : gpu::kQuerySparse;
  query.k = rule.k;
  query.sink = rule.sink;
  query.recent = rule.recent;
  return query;
}

gpu::Query dense_query(const Segment& segment) {
  gpu::Query query = query_of(*segment.row, segment.first, segment.position + 1);
  query.mode = gpu::kQueryDense;
  query.k = query.context;
  return query;
}

bool same(const std::vector<Segment>& a, const std::vector<Segment>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](const Segment& x, const Segment& y) {
    return x.row == y.row && x.first == y.first && x.tokens == y.tokens && x.position == y.position;
  });
}

}  // namespace

std::string StepPlan::pattern() const {
  std::string text(layers.size(), 'd');
  for (size_t i = 0; i < layers.size(); i++)
    if (!layers[i].queries.empty()) text[i] = 's';
  return text;
}

StepPlan plan_step(const AttentionContext& context, const AttentionShape& shape,
                   const RowView* rows, int32_t row_count, bool sparse_backend,
                   int32_t decode_rows) {
  StepPlan step;
  step.layers.resize(static_cast<size_t>(shape.layers));
  for (int32_t l = 0; l < shape.layers; l++) {
    LayerPlan& layer = step.layers[static_cast<size_t>(l)];
    Plan plan = plan_rows(context, l, rows, row_count, sparse_backend);
    count_rows(context, shape, l, rows, row_count, plan);
    trace_dense(context, shape, l, plan);
    if (decode_rows > 0 && !plan.sparse.empty()) {
      layer.queries.resize(static_cast<size_t>(decode_rows));
      for (const Segment& segment : plan.sparse)
        layer.queries[static_cast<size_t>(segment.first)] = sparse_query(segment, l, 0);
      for (const Segment& segment : plan.dense)
        layer.queries[static_cast<size_t>(segment.first)] = dense_query(segment);
    } else {
      for (const Segment& segment : plan.sparse)
        for (int32_t t = 0; t < segment.tokens; t++)
          layer.queries.push_back(sparse_query(segment, l, t));
      if (!plan.dense.empty()) {
        const auto known =
            std::find_if(step.dense.begin(), step.dense.end(),
                         [&](const std::vector<Segment>& set) { return same(set, plan.dense); });
        layer.dense = static_cast<int32_t>(known - step.dense.begin());
        if (known == step.dense.end()) step.dense.push_back(std::move(plan.dense));
      }
    }
  }
  return step;
}

}  // namespace spotlight
