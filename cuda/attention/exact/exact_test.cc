// Logits, softmax mass, top-k and quality against their definitions in double, for every
// instruction set.
#include "attention/exact/exact.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <set>

#include "attention/exact/quality.h"
#include "attention/flash/row_list.h"
#include "attention/test_world.h"
#include "test/check.h"

namespace spotlight {
namespace {

// [seen] softmax mass of full attention on each token, summed over the group of one KV head.
std::vector<double> true_mass(const TestSequence& sequence, int32_t head, int32_t position) {
  const ReferenceCache& cache = sequence.cache;
  const int32_t group = cache.query_heads / cache.kv_heads;
  std::vector<double> mass(static_cast<size_t>(position) + 1, 0.0);
  for (int32_t g = 0; g < group; g++) {
    const float* q = sequence.query(position) + (head * group + g) * cache.head_dim;
    std::vector<double> logits;
    for (int32_t t = 0; t <= position; t++) {
      double sum = 0;
      for (int32_t j = 0; j < cache.head_dim; j++) sum += double{q[j]} * cache.key(t, head)[j];
      logits.push_back(sum / std::sqrt(cache.head_dim));
    }
    const double top = *std::max_element(logits.begin(), logits.end());
    double total = 0;
    for (const double x : logits) total += std::exp(x - top);
    for (size_t t = 0; t < mass.size(); t++) mass[t] += std::exp(logits[t] - top) / total;
  }
  return mass;
}

std::vector<int32_t> best_by(const std::vector<double>& score, int32_t k) {
  std::vector<int32_t> order(score.size());
  std::iota(order.begin(), order.end(), 0);
  std::sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
    return score[a] != score[b] ? score[a] > score[b] : a > b;
  });
  order.resize(static_cast<size_t>(k));
  std::sort(order.begin(), order.end());
  return order;
}

void store(TestWorld& world, Backend& backend, const TestSequence& sequence) {
  const std::vector<LayerPolicy> policies(1);
  TestStep step(world, 0);
  step.add(sequence, 0, sequence.tokens, false, policies);
  step.run(world, backend, 2);
}

TEST(mass_is_that_of_full_attention) {
  for (const std::string& isa : available_isas()) {
    select_isa(isa);
    for (const int32_t group : {1, 3, 7}) {
      Shape shape;
      shape.group = group;
      TestWorld world(shape, 5);
      const auto backend = make_backend("dense");
      TestSequence sequence(world, 205);
      store(world, *backend, sequence);
      for (const int32_t position : {0, 15, 63, 64, 200}) {
        for (int32_t head = 0; head < shape.kv_heads; head++) {
          std::vector<float> q(static_cast<size_t>(group) * shape.head_dim);
          scale_query(sequence.query(position) + head * group * shape.head_dim, group,
                      shape.head_dim, q.data());
          Exact exact;
          exact.logits({&world.arena, sequence.table.data(), 0, head}, position + 1, q.data(),
                       group);
          exact.softmax();
          const std::vector<double> mass = true_mass(sequence, head, position);
          const std::vector<float> expected(mass.begin(), mass.end());
          CHECK_CLOSE((std::vector<float>(exact.mass(), exact.mass() + position + 1)), expected,
                      1e-6, 1e-4);
          double total = 0;
          for (int32_t t = 0; t <= position; t++) total += exact.head(group - 1)[t];
          CHECK(std::fabs(total - 1) < 1e-5);
        }
      }
    }
  }
  select_isa("auto");
}

TEST(top_positions_are_exact_and_ties_go_to_the_newest) {
  std::mt19937 random(3);
  for (int32_t round = 0; round < 300; round++) {
    const int32_t n = 1 + static_cast<int32_t>(random() % 400);
    std::vector<float> scores(static_cast<size_t>(n));
    // Few distinct values of either sign, or many in one narrow band.
    for (float& x : scores)
      x = round % 2 == 0 ? static_cast<float>(random() % 9) - 4.0f
                         : 1.0f + 1e-6f * static_cast<float>(random() % 5000);
    const int32_t from = static_cast<int32_t>(random() % n);
    const int32_t to = from + static_cast<int32_t>(random() % (n - from + 1));
    const int32_t k = static_cast<int32_t>(random() % (n + 2));
    std::vector<int32_t> out = {-7};
    TopPositions().find(scores.data(), from, to, k, out);
    std::vector<double> shown(scores.begin() + from, scores.begin() + to);
    std::vector<int32_t> expected = best_by(shown, std::min(k, to - from));
    for (int32_t& t : expected) t += from;
    expected.insert(expected.begin(), -7);
    CHECK(out == expected);
  }
}

TEST(quality_compares_with_the_exact_top_k) {
  Shape shape;
  TestWorld world(shape, 9);
  const Artifact artifact = world.artifact("linear-asym", 128);
  const auto encoder = make_encoder(artifact, 1);
  world.context.encoders[0] = encoder.get();
  const auto backend = make_backend("spotlight");
  TestSequence sequence(world, 500);
  LayerPolicy sparse;
  sparse.mode = LayerMode::kSparse;
  sparse.min_tokens = 100;
  const std::vector<LayerPolicy> policies(1, sparse);
  store(world, *backend, sequence);
  TestStep step(world, 0);
  step.add(sequence, 400, 60, true, policies, 0, true);
  step.run(world, *backend, 2);

  QualityProbe probe;
  probe.results.resize(2);
  std::vector<std::vector<int32_t>> trace = {step.trace(0, 0), step.trace(0, 1)};
  RowView row = step.rows[0];
  row.trace = trace.data();
  row.quality = &probe;
  LayerIo io;
  io.q = sequence.q.data();
  io.q_stride = shape.query_heads() * shape.head_dim;
  row.first = 400;
  const auto measure = [&] {
    TestWorld::in_team(2, 0, 0,
                       [&](Team& team) { measure_quality(world.context, io, &row, 1, team); });
  };
  measure();
  for (int32_t head = 0; head < 2; head++) {
    const std::vector<double> mass = true_mass(sequence, head, 459);
    const std::vector<int32_t>& chosen = trace[static_cast<size_t>(head)];
    CHECK_EQ(chosen.size(), 100u);
    const std::vector<int32_t> best = best_by(mass, 100);
    std::set<int32_t> united(best.begin(), best.end());
    united.insert(chosen.begin(), chosen.end());
    double kept = 0, most = 0;
    for (const int32_t t : chosen) kept += mass[static_cast<size_t>(t)] / shape.group;
    for (const int32_t t : best) most += mass[static_cast<size_t>(t)] / shape.group;
    const Quality& quality = probe.results[static_cast<size_t>(head)];
    const auto size = static_cast<double>(united.size());
    CHECK_CLOSE((std::vector<float>{quality.iou, quality.kept_mass, quality.best_mass}),
                (std::vector<float>{static_cast<float>((200 - size) / size),
                                    static_cast<float>(kept), static_cast<float>(most)}),
                1e-5, 1e-4);
    CHECK(quality.iou > 0 && quality.kept_mass < quality.best_mass);
  }
  // One head only; a layer that attended densely keeps everything.
  trace[1].clear();
  probe = {0, 1, std::vector<Quality>(2)};
  measure();
  CHECK_EQ(probe.results[0].best_mass, 0.0f);
  CHECK_EQ(probe.results[1].iou, 1.0f);
  CHECK_EQ(probe.results[1].kept_mass, 1.0f);
}

}  // namespace
}  // namespace spotlight
