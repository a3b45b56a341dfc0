// Selectors that look at each query by itself, against their papers' rules written out.
#include "attention/half.h"
#include "attention/selectors/planes.h"
#include "attention/selectors/test_query.h"

namespace spotlight {
namespace {

constexpr int32_t kTokens = 900;
const int32_t kPositions[] = {120, 127, 128, 400, 767, 899};

// What `name` chooses at a position for the query heads from `first` on.
Selection choose(StoredSequence& stored, const LayerPolicy& policy, int32_t position, int32_t first,
                 SelectorState* state) {
  const int32_t heads = policy.selector->info().per_query_head ? 1 : stored.group();
  SelectorScratch scratch;
  Selection out;
  policy.selector->select(state, stored.query(position, first, heads, policy), scratch, out);
  CHECK(std::is_sorted(out.positions.begin(), out.positions.end()));
  return out;
}

TEST(oracle_takes_the_greatest_mass_of_the_group) {
  StoredSequence stored(kTokens);
  const LayerPolicy policy = policy_of("oracle", 60);
  for (const int32_t position : kPositions)
    for (int32_t head = 0; head < 2; head++) {
      const auto all = first_positions(position + 1);
      CHECK(choose(stored, policy, position, head * 3, nullptr).positions ==
            best_of(all, stored.mass(position, head, all), 60));
    }
}

TEST(oracle_head_takes_the_greatest_mass_of_a_query_head) {
  StoredSequence stored(kTokens);
  const LayerPolicy policy = policy_of("oracle-head", 60);
  bool differ = false;
  for (const int32_t position : kPositions) {
    const auto all = first_positions(position + 1);
    std::vector<int32_t> first;
    for (int32_t query_head = 0; query_head < 6; query_head++) {
      const auto chosen = choose(stored, policy, position, query_head, nullptr).positions;
      CHECK(chosen == best_of(all, stored.logits(position, query_head, all), 60));
      if (query_head % 3 == 0)
        first = chosen;
      else
        differ |= chosen != first;
    }
  }
  CHECK(differ);
}

TEST(window_takes_both_ends) {
  StoredSequence stored(kTokens);
  const LayerPolicy policy = policy_of("window", 60);
  for (const int32_t position : kPositions) {
    std::vector<int32_t> expected = {0, 1, 2, 3};
    for (int32_t t = position + 1 - 56; t <= position; t++) expected.push_back(t);
    CHECK(choose(stored, policy, position, 0, nullptr).positions == expected);
  }
}

TEST(lsh_counts_the_signs_a_key_shares_with_the_queries) {
  StoredSequence stored(kTokens);
  for (const bool per_head : {false, true}) {
    const LayerPolicy policy = policy_of(per_head ? "lsh-head" : "lsh", 60);
    for (int32_t head = 0; head < 2; head++) {
      const auto state = policy.selector->make_state();
      policy.selector->index(state.get(), stored.keys(head), 500, 60);
      policy.selector->index(state.get(), stored.keys(head), kTokens, 60);  // in two chunks
      const std::vector<float> planes =
          random_planes(static_cast<uint64_t>(head), stored.dim(), 128);
      const auto sign = [&](const float* x, int32_t plane) {
        float z = 0;
        for (int32_t j = 0; j < stored.dim(); j++) {
          const float product = x[j] * planes[static_cast<size_t>(j) * 128 + plane];
          z += product;
        }
        return z > 0;
      };
      for (const int32_t position : kPositions) {
        std::vector<int32_t> score(static_cast<size_t>(position) + 1, 0);
        for (int32_t h = head * 3; h < (per_head ? head * 3 + 1 : head * 3 + 3); h++)
          for (int32_t plane = 0; plane < 128; plane++) {
            std::vector<float> q(static_cast<size_t>(stored.dim()));
            scale_query(stored.sequence.query(position) + h * stored.dim(), 1, stored.dim(),
                        q.data());
            const bool wanted = sign(q.data(), plane);
            for (int32_t t = 0; t <= position; t++)
              score[static_cast<size_t>(t)] +=
                  sign(stored.sequence.cache.key(t, head), plane) == wanted;
          }
        CHECK(choose(stored, policy, position, head * 3, state.get()).positions ==
              best_of(first_positions(position + 1), score, 60));
      }
    }
  }
}

TEST(quest_takes_pages_by_their_upper_bound_and_the_open_page) {
  StoredSequence stored(kTokens);
  const LayerPolicy policy = policy_of("quest", 80);
  for (int32_t query_head = 0; query_head < 6; query_head++) {
    const int32_t head = query_head / 3;
    const auto state = policy.selector->make_state();
    policy.selector->index(state.get(), stored.keys(head), 333, 80);
    policy.selector->index(state.get(), stored.keys(head), kTokens, 80);
    for (const int32_t position : kPositions) {
      const float* q = stored.sequence.query(position) + query_head * stored.dim();
      const int32_t open = position / 16;
      std::vector<double> bound(static_cast<size_t>(open), 0.0);
      for (int32_t page = 0; page < open; page++)
        for (int32_t j = 0; j < stored.dim(); j++) {
          double most = -1e30;
          for (int32_t t = page * 16; t < page * 16 + 16; t++)
            most = std::max(most, double{q[j]} * stored.sequence.cache.key(t, head)[j]);
          bound[static_cast<size_t>(page)] += most;
        }
      std::vector<int32_t> expected;
      std::vector<int32_t> pages = best_of(first_positions(open), bound, 4);
      pages.push_back(open);
      for (const int32_t page : pages)
        for (int32_t t = page * 16; t <= std::min(position, page * 16 + 15); t++)
          expected.push_back(t);
      CHECK(choose(stored, policy, position, query_head, state.get()).positions == expected);
    }
  }
}

TEST(magicpig_samples_keys_that_collide_twice_and_weighs_them_by_their_chance) {
  StoredSequence stored(kTokens);
  const LayerPolicy policy = policy_of("magicpig", 60);
  const int32_t dim = stored.dim(), head = 1, query_head = 4, dense = 90;
  const auto state = policy.selector->make_state();
  policy.selector->index(state.get(), stored.keys(head), 300, dense);
  policy.selector->index(state.get(), stored.keys(head), kTokens, dense);
  const std::vector<float> planes = random_planes(0x6d616769637069, dim, 1500);
  std::vector<float> centre(static_cast<size_t>(dim), 0.0f);
  for (int32_t t = 0; t < dense; t++)
    for (int32_t j = 0; j < dim; j++) centre[j] += stored.sequence.cache.key(t, head)[j];
  for (float& x : centre) x /= dense;
  const auto bits = [&](const float* x) {
    std::vector<bool> result;
    for (int32_t plane = 0; plane < 1500; plane++) {
      float z = 0;
      for (int32_t j = 0; j < dim; j++) {
        const float product = x[j] * planes[static_cast<size_t>(j) * 1500 + plane];
        z += product;
      }
      result.push_back(z > 0);
    }
    return result;
  };
  int32_t sampled = 0;
  for (const int32_t position : {300, 899}) {
    const Selection out = choose(stored, policy, position, query_head, state.get());
    std::vector<float> q(static_cast<size_t>(dim));
    scale_query(stored.sequence.query(position) + query_head * dim, 1, dim, q.data());
    const std::vector<bool> wanted = bits(q.data());
    size_t next = 0;
    for (int32_t t = 0; t <= position; t++) {
      std::vector<float> key(static_cast<size_t>(dim));
      double dot = 0, kk = 0, qq = 0;
      for (int32_t j = 0; j < dim; j++) {
        key[j] = stored.sequence.cache.key(t, head)[j] - centre[j];
        dot += double{key[j]} * q[j];
        kk += double{key[j]} * key[j];
        qq += double{q[j]} * q[j];
      }
      const std::vector<bool> code = bits(key.data());
      int32_t tables = 0;
      for (int32_t l = 0; l < 150; l++)
        tables +=
            std::equal(code.begin() + 10 * l, code.begin() + 10 * l + 10, wanted.begin() + 10 * l);
      const bool always = t < 4 || t > position - 16;
      if (!always && tables < 2) continue;
      CHECK(next < out.positions.size());
      CHECK_EQ(out.positions[next], t);
      const double p = 1 - std::acos(dot / std::sqrt(kk * qq)) / M_PI, one = std::pow(p, 10);
      const double chance = 1 - std::pow(1 - one, 150) - 150 * one * std::pow(1 - one, 149) + 1e-4;
      CHECK(std::fabs(out.bias[next] - (always ? 0 : -std::log2(chance))) < 1e-3);
      sampled += !always;
      next++;
    }
    CHECK_EQ(next, out.positions.size());
  }
  CHECK(sampled > 5);
}

TEST(vattention_estimates_the_denominator_within_epsilon) {
  StoredSequence stored(kTokens);
  const LayerPolicy policy = policy_of("vattention", 100);
  int32_t within = 0, queries = 0, partial = 0;
  for (int32_t position = 300; position < kTokens; position += 11)
    for (int32_t head = 0; head < 6; head++) {
      const Selection out = choose(stored, policy, position, head, nullptr);
      const auto all = first_positions(position + 1);
      const std::vector<double> logits = stored.logits(position, head, all);
      // The heavy part: both ends and the best between, 50 tokens, unweighted.
      std::vector<int32_t> heavy, sampled;
      std::vector<double> between;
      for (size_t i = 0; i < out.positions.size(); i++)
        (out.bias[i] == 0 ? heavy : sampled).push_back(out.positions[i]);
      std::vector<int32_t> expected = {0, 1, 2, 3};
      const std::vector<int32_t> inner(all.begin() + 4, all.end() - 16);
      for (const int32_t t : inner) between.push_back(logits[static_cast<size_t>(t)]);
      const auto best = best_of(inner, between, 30);
      expected.insert(expected.end(), best.begin(), best.end());
      for (int32_t t = position - 15; t <= position; t++) expected.push_back(t);
      const int32_t rest = position + 1 - 50;
      if (!sampled.empty()) {
        CHECK(heavy == expected);
        CHECK(sampled.size() >= 32u);
        partial++;
      } else {
        CHECK_EQ(out.positions.size(), all.size());  // all were needed
      }
      double truth = 0, estimate = 0;
      for (const double x : logits) truth += std::exp(x);
      for (size_t i = 0; i < out.positions.size(); i++) {
        estimate +=
            std::exp(logits[static_cast<size_t>(out.positions[i])]) * std::exp2(out.bias[i]);
        if (out.bias[i] != 0)
          CHECK(std::fabs(std::exp2(out.bias[i]) * static_cast<double>(sampled.size()) - rest) <
                0.01);
      }
      within += std::fabs(estimate / truth - 1) <= 0.05;
      queries++;
    }
  // 1 - delta is 0.95, by an asymptotic bound on a base sample of 32: no less than 0.9 here.
  CHECK(within >= 0.9 * queries);
  CHECK(partial > queries / 4);
}

TEST(samples_are_the_same_every_time) {
  StoredSequence stored(kTokens);
  const LayerPolicy policy = policy_of("vattention", 100);
  const Selection once = choose(stored, policy, 700, 2, nullptr);
  CHECK(once.positions == choose(stored, policy, 700, 2, nullptr).positions);
  CHECK(once.positions != choose(stored, policy, 700, 1, nullptr).positions);
}

}  // namespace
}  // namespace spotlight
