// Which kernels a step's rows get, and with which numbers: as plan_rows and selection_rule say,
// whatever the shape of the step. Needs no GPU.
#include "device/cuda/step_plan.h"

#include "attention/counters.h"
#include "attention/policy.h"
#include "attention/spotlight/select/select.h"
#include "test/check.h"

namespace spotlight {
namespace {

// Codes in all layers but the last.
struct SomeCodes final : Encoder {
  bool has_layer(int32_t layer) const override { return layer < 3; }
  int32_t plane_words() const override { return 4; }
  int32_t selections() const override { return 1; }
};

struct World {
  World() {
    context.encoders[0] = &encoder;
    context.counters = &counters;
    policies.resize(4);
    policies[0].mode = LayerMode::kDense;
    policies[1].mode = LayerMode::kSparse;
    policies[2].mode = LayerMode::kSparseTail;
    policies[3].mode = LayerMode::kSparseTail;
    for (LayerPolicy& policy : policies) {
      policy.fraction = 0.1f;
      policy.min_tokens = 80;
    }
  }
  void row(int32_t position, int32_t tokens, bool generated, int32_t plane = 0) {
    RowView row;
    row.seat = 10 + static_cast<int32_t>(rows.size());
    row.first = rows.empty() ? 0 : rows.back().first + rows.back().tokens;
    row.tokens = tokens;
    row.position = position;
    row.generated = generated;
    row.plane = plane;
    row.policies = policies.data();
    rows.push_back(row);
  }
  StepPlan plan(int32_t decode_rows, bool sparse = true) const {
    return plan_step(context, {4, 2}, rows.data(), static_cast<int32_t>(rows.size()), sparse,
                     decode_rows);
  }

  SomeCodes encoder;
  AttentionCounters counters;
  AttentionContext context;
  std::vector<LayerPolicy> policies;
  std::vector<RowView> rows;
};

TEST(a_decode_step_has_a_query_a_token_where_any_row_retrieves) {
  World world;
  world.row(2000, 1, true);     // retrieves
  world.row(40, 1, true);       // its budget covers its context
  world.row(3000, 1, true, 1);  // its plane has no codes
  const StepPlan step = world.plan(4);
  CHECK_EQ(step.pattern(), std::string("dssd"));
  CHECK_EQ(step.dense.size(), size_t{1});
  CHECK_EQ(step.dense[0].size(), size_t{3});
  CHECK_EQ(step.layers[0].dense, 0);
  CHECK_EQ(step.layers[3].dense, 0);
  for (const int l : {1, 2}) {
    const LayerPlan& layer = step.layers[static_cast<size_t>(l)];
    CHECK_EQ(layer.dense, -1);
    CHECK_EQ(layer.queries.size(), size_t{4});
    const gpu::Query &sparse = layer.queries[0], &small = layer.queries[1],
                     &codeless = layer.queries[2], &padding = layer.queries[3];
    CHECK_EQ(sparse.mode, l == 1 ? gpu::kQuerySparse : gpu::kQueryTail);
    CHECK_EQ(sparse.context, 2001);
    CHECK_EQ(sparse.k, 200);
    CHECK_EQ(sparse.sink, 4);
    CHECK_EQ(sparse.recent, 64);
    CHECK_EQ(sparse.seat, 10);
    CHECK_EQ(small.mode, gpu::kQueryDense);
    CHECK_EQ(small.context, 41);
    CHECK_EQ(small.token, 1);
    CHECK_EQ(codeless.mode, gpu::kQueryDense);
    CHECK_EQ(codeless.context, 3001);
    CHECK_EQ(padding.mode, gpu::kQueryNone);
    CHECK_EQ(padding.seat, -1);
  }
  CHECK_EQ(world.counters.sparse_rows.load(), int64_t{2});
  CHECK_EQ(world.counters.dense_fallback_rows.load(), int64_t{1});
  CHECK_EQ(world.counters.selected_tokens.load(), int64_t{2 * 2 * 200});
}

TEST(other_steps_split_rows_between_dense_attention_and_queries) {
  World world;
  world.row(0, 100, false);  // a prompt
  world.row(70, 30, true);   // generated anew: dense up to a context of 80, sparse behind
  world.row(500, 1, true);
  const StepPlan step = world.plan(0);
  CHECK_EQ(step.dense.size(), size_t{2});  // layers 0 and 3; 1 and 2
  CHECK_EQ(step.layers[0].dense, 0);
  CHECK_EQ(step.layers[1].dense, 1);
  CHECK_EQ(step.layers[2].dense, 1);
  CHECK_EQ(step.layers[3].dense, 0);
  CHECK_EQ(step.dense[1].size(), size_t{2});
  CHECK_EQ(step.dense[1][1].tokens, 10);
  const std::vector<gpu::Query>& queries = step.layers[2].queries;
  CHECK_EQ(queries.size(), size_t{21});
  for (int32_t i = 0; i < 20; i++) {
    const gpu::Query& query = queries[static_cast<size_t>(i)];
    CHECK_EQ(query.token, 110 + i);
    CHECK_EQ(query.context, 81 + i);
    CHECK_EQ(query.k, selection_rule(world.policies[2], 81 + i).k);
    CHECK(query.k < query.context);
    CHECK_EQ(query.seat, 11);
  }
  CHECK_EQ(queries[20].token, 130);
  CHECK_EQ(queries[20].context, 501);
}

TEST(the_dense_backend_retrieves_nowhere) {
  World world;
  world.row(2000, 1, true);
  CHECK_EQ(world.plan(1, false).pattern(), std::string("dddd"));
}

}  // namespace
}  // namespace spotlight
