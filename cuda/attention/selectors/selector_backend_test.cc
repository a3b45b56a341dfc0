// The generic path: what it computes from a selection, and that neither chunks, threads nor
// neighbours in the batch change it.
#include "attention/selectors/selector_backend.h"

#include "attention/half.h"
#include "attention/selectors/test_query.h"

namespace spotlight {
namespace {

// Softmax over the positions with weights, and with the tail the open block and the block means.
std::vector<float> expected_output(const StoredSequence& stored, int32_t position,
                                   const std::vector<Selection>& choices, bool tail) {
  const int32_t dim = stored.dim(), closed = tail ? (position + 1) / kBlockSize : 0;
  std::vector<float> out;
  for (int32_t h = 0; h < 6; h++) {
    const Selection& choice = choices[choices.size() == 6 ? h : h / 3];
    const int32_t head = h / 3;
    std::vector<int32_t> positions;
    std::vector<double> bias;
    std::vector<int32_t> left(static_cast<size_t>(closed), kBlockSize);
    for (size_t i = 0; i < choice.positions.size(); i++) {
      const int32_t t = choice.positions[i];
      if (tail && t >= closed * kBlockSize) continue;
      positions.push_back(t);
      bias.push_back(choice.bias.empty() ? 0 : choice.bias[i] * std::log(2.0));
      if (tail) left[static_cast<size_t>(t / kBlockSize)]--;
    }
    if (tail)
      for (int32_t t = closed * kBlockSize; t <= position; t++) {
        positions.push_back(t);
        bias.push_back(0);
      }
    std::vector<double> logits = stored.logits(position, h, positions);
    std::vector<std::vector<double>> values;
    for (size_t i = 0; i < positions.size(); i++) {
      logits[i] += bias[i];
      const float* value = stored.sequence.cache.value(positions[i], head);
      values.emplace_back(value, value + dim);
    }
    const float* q = stored.sequence.query(position) + h * dim;
    for (int32_t b = 0; b < closed; b++) {
      if (left[static_cast<size_t>(b)] == 0) continue;
      const int32_t block = stored.sequence.table[static_cast<size_t>(b)];
      double logit = 0;
      std::vector<double> value;
      for (int32_t j = 0; j < dim; j++) {
        logit += double{q[j]} * half_to_float(stored.world.arena.mean_k_at(0, block, head)[j]);
        value.push_back(half_to_float(stored.world.arena.mean_v_at(0, block, head)[j]));
      }
      logits.push_back(logit / std::sqrt(dim) + std::log(left[static_cast<size_t>(b)]));
      values.push_back(value);
    }
    const double top = *std::max_element(logits.begin(), logits.end());
    double total = 0;
    std::vector<double> sum(static_cast<size_t>(dim), 0.0);
    for (size_t i = 0; i < logits.size(); i++) {
      const double weight = std::exp(logits[i] - top);
      total += weight;
      for (int32_t j = 0; j < dim; j++) sum[static_cast<size_t>(j)] += weight * values[i][j];
    }
    for (const double x : sum) out.push_back(static_cast<float>(x / total));
  }
  return out;
}

constexpr int32_t kTokens = 700, kPrompt = 300;

TEST(a_selection_is_gathered_weighted_and_completed_by_the_tail) {
  for (const Selector* selector : all_selectors()) {
    StoredSequence stored(kTokens);
    LayerPolicy policy = policy_of(selector->info().name, 96);
    policy.mode = LayerMode::kSparseTail;
    const std::vector<LayerPolicy> policies(1, policy);
    const auto backend = make_selector_backend();
    TestStep prompt(stored.world, 0), decode(stored.world, 0);
    prompt.add(stored.sequence, 0, kPrompt, false, policies);
    prompt.rows[0].seated = false;
    prompt.run(stored.world, *backend, 2);
    decode.add(stored.sequence, kPrompt, kTokens - kPrompt, true, policies, 0, true);
    decode.run(stored.world, *backend, 2);

    // The same choices, made one by one.
    const int32_t heads = selector->info().per_query_head ? 1 : 3;
    const int32_t groups = 6 / heads;
    std::vector<std::unique_ptr<SelectorState>> states;
    for (int32_t g = 0; g < groups; g++) states.push_back(selector->make_state());
    SelectorScratch scratch;
    int64_t rows = 0;
    for (int32_t t = 0; t < kTokens; t++) {
      std::vector<Selection> choices(static_cast<size_t>(groups));
      std::vector<std::vector<int32_t>> united(2);
      for (int32_t g = 0; g < groups; g++) {
        const Query query = stored.query(t, g * heads, heads, policy);
        SelectorState* state = states[static_cast<size_t>(g)].get();
        if (t < kPrompt) {
          if (selector->info().in_order) selector->observe(state, query, scratch);
          continue;
        }
        if (!selector->info().in_order) selector->index(state, query.keys, kTokens, kPrompt);
        Selection& choice = choices[static_cast<size_t>(g)];
        selector->select(state, query, scratch, choice);
        auto& all = united[static_cast<size_t>(g * heads / 3)];
        all.insert(all.end(), choice.positions.begin(), choice.positions.end());
      }
      if (t < kPrompt) continue;
      for (auto& all : united) {
        std::sort(all.begin(), all.end());
        all.erase(std::unique(all.begin(), all.end()), all.end());
        rows += static_cast<int64_t>(all.size());
      }
      if (t % 37 == 0 || t == kTokens - 1)
        CHECK_CLOSE(decode.output(0, t - kPrompt),
                    expected_output(stored, t, choices, selector->info().tail), 3e-5, 1e-4);
      if (t == kTokens - 1)
        for (int32_t head = 0; head < 2; head++)
          CHECK(decode.trace(0, head) == united[static_cast<size_t>(head)]);
    }
    CHECK_EQ(stored.world.counters.selected_tokens.load(), rows);
    CHECK_EQ(stored.world.counters.sparse_rows.load(), 1);
  }
}

TEST(chunks_threads_and_neighbours_change_nothing) {
  for (const Selector* selector : all_selectors()) {
    StoredSequence stored(kTokens, 11);
    TestSequence other(stored.world, 200);
    const std::vector<LayerPolicy> policies(1, policy_of(selector->info().name, 64));
    const std::vector<LayerPolicy> codes(1);
    const auto backend = make_selector_backend();
    std::vector<std::vector<float>> outputs;
    for (const auto& edges : std::vector<std::vector<int32_t>>{
             {0, kPrompt, kTokens}, {0, 64, kPrompt, kPrompt + 1, 500, kTokens}}) {
      for (const int32_t threads : {1, 3}) {
        std::vector<float> all;
        for (size_t i = 0; i + 1 < edges.size(); i++) {
          TestStep step(stored.world, 0);
          if (threads == 3) step.add(other, static_cast<int32_t>(i) * 40, 40, i % 2 == 1, codes);
          step.add(stored.sequence, edges[i], edges[i + 1] - edges[i], edges[i] >= kPrompt,
                   policies);
          for (RowView& row : step.rows) row.seated = i > 0;
          step.rows.back().seat = 5;
          step.run(stored.world, *backend, threads);
          for (int32_t t = 0; t < edges[i + 1] - edges[i]; t++) {
            const auto output = step.output(step.rows.size() - 1, t);
            if (edges[i] + t >= kPrompt) all.insert(all.end(), output.begin(), output.end());
          }
        }
        outputs.push_back(all);
      }
    }
    for (const auto& output : outputs) CHECK(output == outputs[0]);
  }
}

TEST(a_generated_token_below_its_budget_attends_densely) {
  StoredSequence stored(kTokens);
  const std::vector<LayerPolicy> policies(1, policy_of("h2o", 128));
  const auto backend = make_selector_backend();
  TestStep step(stored.world, 0);
  step.add(stored.sequence, 0, 140, true, policies);
  step.rows[0].seated = false;
  step.run(stored.world, *backend, 2);
  CHECK_CLOSE(step.output(0, 100),
              reference_dense(stored.sequence.cache, stored.sequence.query(100), 100).out, 2e-5,
              1e-4);
}

}  // namespace
}  // namespace spotlight
