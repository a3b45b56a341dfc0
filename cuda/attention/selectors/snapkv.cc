// snapkv: when the first query selects, the last 32 queries before it vote for the tokens they
// attend to; votes are pooled over neighbours, the best k - 32 tokens and those 32 stay, and
// everything after is kept. It compresses a prompt, not what is generated: without a prompt it
// keeps all.
#include <algorithm>

#include "attention/selectors/eviction.h"

namespace spotlight {
namespace {

constexpr int32_t kWindow = 32, kPool = 5;

struct SnapKvState : SelectorState {
  RecentQueries queries{kWindow};
  KeptTokens kept;
  bool compressed = false;
};

class SnapKv : public Selector {
 public:
  const SelectorInfo& info() const override {
    static const SelectorInfo info = {
        "snapkv",
        "SnapKV, arXiv 2404.14469",
        0,
        0,
        false,
        false,
        true,
        "of the prompt the last 32 tokens and the k - 32 they attend to, pooled by 5; then all"};
    return info;
  }
  std::unique_ptr<SelectorState> make_state() const override {
    return std::make_unique<SnapKvState>();
  }
  void observe(SelectorState* state, const Query& query, SelectorScratch&) const override {
    static_cast<SnapKvState*>(state)->queries.push(query);
  }
  void select(SelectorState* kept, const Query& query, SelectorScratch& scratch,
              Selection& out) const override {
    auto& state = *static_cast<SnapKvState*>(kept);
    if (!state.compressed) compress(state, query, scratch);
    state.kept.extend(query.seen);
    out.positions = state.kept.positions();
  }

 private:
  static void compress(SnapKvState& state, const Query& query, SelectorScratch& scratch) {
    state.compressed = true;
    const int32_t prompt = query.seen - 1;
    state.kept.extend(prompt);
    const int32_t window = std::min(kWindow, prompt), older = prompt - window;
    if (prompt <= query.k || state.queries.count() == 0) return;
    std::vector<float> votes(static_cast<size_t>(older), 0.0f), pooled(votes);
    state.queries.each(query, scratch.exact, [&](int32_t, const float* mass) {
      for (int32_t t = 0; t < older; t++) votes[static_cast<size_t>(t)] += mass[t];
    });
    for (int32_t t = 0; t < older; t++)
      for (int32_t i = std::max(0, t - kPool / 2); i <= std::min(older - 1, t + kPool / 2); i++)
        pooled[static_cast<size_t>(t)] += votes[static_cast<size_t>(i)] / kPool;
    std::vector<int32_t> stay;
    scratch.top.find(pooled.data(), 0, older, query.k - window, stay);
    for (int32_t t = older; t < prompt; t++) stay.push_back(t);
    state.kept.keep(stay);
    state.queries.forget();
  }
};

}  // namespace

const Selector& snapkv_selector() {
  static const SnapKv selector;
  return selector;
}

}  // namespace spotlight
