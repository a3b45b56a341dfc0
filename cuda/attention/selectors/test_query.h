// A sequence stored in a cache of one layer, its queries as selectors see them, and full attention
// over it by definition, in double: what selectors are tested against.
#pragma once

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "attention/flash/row_list.h"
#include "attention/selectors/selector.h"
#include "attention/test_world.h"
#include "test/check.h"

namespace spotlight {

struct StoredSequence {
  explicit StoredSequence(int32_t tokens, uint32_t seed = 7)
      : world(shape(), seed), sequence(world, tokens) {
    const std::vector<LayerPolicy> policies(1);
    TestStep step(world, 0);
    step.add(sequence, 0, tokens, false, policies);
    step.run(world, *make_backend("spotlight"), 1);
  }
  static Shape shape() {
    Shape result;
    result.blocks = 24;
    return result;
  }
  int32_t group() const { return world.shape.group; }
  int32_t dim() const { return world.shape.head_dim; }
  KeyView keys(int32_t head) const { return {&world.arena, sequence.table.data(), 0, head}; }

  // The query at `position`, of `heads` query heads from `first` on; valid until the next call.
  Query query(int32_t position, int32_t first, int32_t heads, const LayerPolicy& policy) {
    q_.resize(static_cast<size_t>(heads) * dim());
    scale_query(sequence.query(position) + first * dim(), heads, dim(), q_.data());
    Query made;
    made.keys = keys(first / group());
    made.policy = &policy;
    made.seen = position + 1;
    made.k = budget(policy, made.seen);
    made.q = q_.data();
    made.first_head = first;
    made.heads = heads;
    return made;
  }

  // Natural-log logits of one query head over the positions given.
  std::vector<double> logits(int32_t position, int32_t query_head,
                             const std::vector<int32_t>& over) const {
    const float* q = sequence.query(position) + query_head * dim();
    std::vector<double> result;
    for (const int32_t t : over) {
      double sum = 0;
      for (int32_t j = 0; j < dim(); j++)
        sum += double{q[j]} * sequence.cache.key(t, query_head / group())[j];
      result.push_back(sum / std::sqrt(dim()));
    }
    return result;
  }
  // Softmax over the positions given, summed over a KV head's group.
  std::vector<double> mass(int32_t position, int32_t head, const std::vector<int32_t>& over) const {
    std::vector<double> sum(over.size(), 0.0);
    for (int32_t h = head * group(); h < (head + 1) * group(); h++) {
      std::vector<double> p = logits(position, h, over);
      const double top = *std::max_element(p.begin(), p.end());
      double total = 0;
      for (double& x : p) total += x = std::exp(x - top);
      for (size_t i = 0; i < p.size(); i++) sum[i] += p[i] / total;
    }
    return sum;
  }

  TestWorld world;
  TestSequence sequence;

 private:
  std::vector<float> q_;
};

inline std::vector<int32_t> first_positions(int32_t count) {
  std::vector<int32_t> all(static_cast<size_t>(count));
  std::iota(all.begin(), all.end(), 0);
  return all;
}

// The k entries of `among` with the greatest score (of the same index), newest first among equals;
// ascending.
template <typename Score>
std::vector<int32_t> best_of(std::vector<int32_t> among, std::vector<Score> score, int32_t k) {
  std::vector<size_t> order(among.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    return score[a] != score[b] ? score[a] > score[b] : among[a] > among[b];
  });
  std::vector<int32_t> best;
  for (size_t i = 0; i < order.size() && static_cast<int32_t>(i) < k; i++)
    best.push_back(among[order[i]]);
  std::sort(best.begin(), best.end());
  return best;
}

inline LayerPolicy policy_of(const char* name, int32_t k) {
  LayerPolicy policy;
  policy.mode = LayerMode::kSparse;
  policy.selector = find_selector(name);
  policy.min_tokens = k;
  policy.sink = 4;
  policy.recent = 16;
  return policy;
}

}  // namespace spotlight
