// Selectors that evict, against their papers' rules written out over full softmaxes in double.
#include <map>
#include <set>

#include "attention/selectors/test_query.h"

namespace spotlight {
namespace {

constexpr int32_t kTokens = 420, kPrompt = 330, kBudget = 60;

// Shows the prompt's queries, then has the generated ones select; what each selected.
std::vector<std::vector<int32_t>> run(StoredSequence& stored, const char* name, int32_t head,
                                      int32_t prompt, const LayerPolicy& policy) {
  const auto state = policy.selector->make_state();
  SelectorScratch scratch;
  std::vector<std::vector<int32_t>> chosen;
  CHECK_EQ(std::string(policy.selector->info().name), name);
  for (int32_t t = 0; t < kTokens; t++) {
    const Query query = stored.query(t, head * 3, 3, policy);
    if (t < prompt) {
      policy.selector->observe(state.get(), query, scratch);
      continue;
    }
    Selection out;
    policy.selector->select(state.get(), query, scratch, out);
    chosen.push_back(out.positions);
  }
  return chosen;
}

TEST(h2o_keeps_the_newest_and_the_heavy_hitters) {
  for (const int32_t prompt : {kPrompt, kBudget}) {
    StoredSequence stored(kTokens);
    const LayerPolicy policy = policy_of("h2o", kBudget);
    for (int32_t head = 0; head < 2; head++) {
      const auto chosen = run(stored, "h2o", head, prompt, policy);
      std::map<int32_t, double> score;  // of the tokens kept
      for (int32_t t = 0; t < kTokens; t++) {
        score[t] = 0;
        if (t >= prompt) {
          std::vector<int32_t> older, newest;
          std::vector<double> had;
          for (const auto& [position, mass] : score) {
            if (position > t - kBudget / 2) {
              newest.push_back(position);
            } else {
              older.push_back(position);
              had.push_back(mass);
            }
          }
          std::map<int32_t, double> kept;
          for (const int32_t position : best_of(older, had, kBudget / 2))
            kept[position] = score[position];
          for (const int32_t position : newest) kept[position] = score[position];
          score = kept;
        }
        std::vector<int32_t> positions;
        for (const auto& entry : score) positions.push_back(entry.first);
        if (t >= prompt) CHECK(chosen[static_cast<size_t>(t - prompt)] == positions);
        const auto mass = stored.mass(t, head, positions);
        for (size_t i = 0; i < positions.size(); i++) score[positions[i]] += mass[i];
      }
      CHECK_EQ(chosen.back().size(), size_t{kBudget});
    }
  }
}

TEST(snapkv_keeps_what_the_prompts_last_queries_vote_for) {
  StoredSequence stored(kTokens);
  const LayerPolicy policy = policy_of("snapkv", kBudget);
  for (int32_t head = 0; head < 2; head++) {
    const auto chosen = run(stored, "snapkv", head, kPrompt, policy);
    const int32_t older = kPrompt - 32;
    std::vector<double> votes(static_cast<size_t>(older), 0.0), pooled;
    for (int32_t t = older; t < kPrompt; t++) {
      const auto mass = stored.mass(t, head, first_positions(t + 1));
      for (int32_t i = 0; i < older; i++) votes[static_cast<size_t>(i)] += mass[i];
    }
    for (int32_t i = 0; i < older; i++) {
      double sum = 0;
      for (int32_t j = i - 2; j <= i + 2; j++) sum += j >= 0 && j < older ? votes[j] : 0;
      pooled.push_back(sum / 5);
    }
    std::vector<int32_t> expected = best_of(first_positions(older), pooled, kBudget - 32);
    for (int32_t t = older; t < kPrompt; t++) expected.push_back(t);
    for (int32_t t = kPrompt; t < kTokens; t++) {
      expected.push_back(t);
      CHECK(chosen[static_cast<size_t>(t - kPrompt)] == expected);
    }
  }
}

TEST(snapkv_keeps_a_prompt_within_its_budget_whole) {
  StoredSequence stored(kTokens);
  const auto chosen = run(stored, "snapkv", 0, 50, policy_of("snapkv", kBudget));
  CHECK(chosen.front() == first_positions(51));
  CHECK(chosen.back() == first_positions(kTokens));
}

// Mass of the last 64 prompt queries on what a profile would let them read.
struct Profiles {
  double sink = 0, frequent = 0, local = 0, total = 0;
  std::vector<int32_t> hitters;
};

Profiles profiles(const StoredSequence& stored, int32_t head, const LayerPolicy& policy) {
  std::vector<double> had(kPrompt, 0.0);
  for (int32_t t = kPrompt - 64; t < kPrompt; t++) {
    const auto mass = stored.mass(t, head, first_positions(t + 1));
    for (int32_t i = 0; i <= t; i++) had[static_cast<size_t>(i)] += mass[i];
  }
  Profiles result;
  std::vector<int32_t> candidates;
  for (int32_t t = policy.sink; t < kPrompt; t++) candidates.push_back(t);
  const int32_t half = budget(policy, kPrompt + 1) / 2;
  result.hitters =
      best_of(candidates, std::vector<double>(had.begin() + policy.sink, had.end()), half);
  const std::set<int32_t> hit(result.hitters.begin(), result.hitters.end());
  for (int32_t t = kPrompt - 64; t < kPrompt; t++) {
    const auto mass = stored.mass(t, head, first_positions(t + 1));
    for (int32_t i = 0; i <= t; i++) {
      const double m = mass[static_cast<size_t>(i)];
      result.total += m;
      const bool sink = i < policy.sink || i == t;
      if (sink) result.sink += m;
      if (sink || hit.count(i)) result.frequent += m;
      if (sink || hit.count(i) || i > t - half) result.local += m;
    }
  }
  return result;
}

TEST(fastgen_gives_a_head_the_least_that_keeps_its_attention) {
  StoredSequence stored(kTokens);
  std::set<std::string> seen;
  // Budgets from nearly nothing to nearly all, so that more than one profile is met.
  for (const int32_t k : {16, 60, 200, 300, 320})
    for (int32_t head = 0; head < 2; head++) {
      LayerPolicy policy = policy_of("fastgen", k);
      for (const int32_t sink : {4, 200, 325}) {
        policy.sink = sink;
        const Profiles truth = profiles(stored, head, policy);
        const auto chosen = run(stored, "fastgen", head, kPrompt, policy);
        std::set<int32_t> expected;
        for (int32_t t = 0; t < sink; t++) expected.insert(t);
        expected.insert(kPrompt);  // itself
        std::string profile = "sink";
        if (truth.sink < 0.95 * truth.total) {
          profile = "frequent";
          // A hitter that is also the newest counts once; candidates now end at the newest kept.
          if (truth.frequent < 0.95 * truth.total) profile = "local";
          if (truth.local < 0.95 * truth.total) profile = "full";
        }
        seen.insert(profile);
        const std::vector<int32_t>& first = chosen.front();
        if (profile == "full") {
          CHECK(first == first_positions(kPrompt + 1));
          CHECK(chosen.back() == first_positions(kTokens));
          continue;
        }
        if (profile == "frequent") expected.insert(truth.hitters.begin(), truth.hitters.end());
        if (profile == "sink" || profile == "frequent") {
          CHECK(first == std::vector<int32_t>(expected.begin(), expected.end()));
        } else {  // the newest k/2, and the heaviest k/2 of what is neither newest nor sink
          CHECK(static_cast<int32_t>(first.size()) <= sink + k);
          for (int32_t t = kPrompt + 1 - k / 2; t <= kPrompt; t++)
            CHECK(std::binary_search(first.begin(), first.end(), t));
        }
        // Sizes stay bounded, and nothing evicted comes back.
        for (size_t i = 1; i < chosen.size(); i++) {
          CHECK(static_cast<int32_t>(chosen[i].size()) <= sink + k + 1);
          const std::set<int32_t> before(chosen[i - 1].begin(), chosen[i - 1].end());
          for (const int32_t t : chosen[i])
            CHECK(t == kPrompt + static_cast<int32_t>(i) || before.count(t));
        }
      }
    }
  CHECK(seen.size() >= 3u);
}

}  // namespace
}  // namespace spotlight
