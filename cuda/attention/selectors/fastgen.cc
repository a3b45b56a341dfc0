// fastgen: when the first query selects, each KV head is profiled on the last 64 queries before it
// and gets the cheapest of sink | sink + frequent | sink + frequent + local | everything that keeps
// 95% of its attention. Frequent and local tokens are half the budget each (the paper: 30% of the
// context each). Attention knows no token ids: the paper's special tokens are the sink here, and
// its class of punctuation is left out.
#include <algorithm>

#include "attention/selectors/eviction.h"

namespace spotlight {
namespace {

constexpr int32_t kWindow = 64;
constexpr double kRecovered = 0.95;

enum class Profile { kNone, kSink, kFrequent, kLocal, kFull };

struct FastGenState : SelectorState {
  RecentQueries queries{kWindow};
  KeptTokens kept;
  Profile profile = Profile::kNone;
};

class FastGen : public Selector {
 public:
  const SelectorInfo& info() const override {
    static const SelectorInfo info = {
        "fastgen",
        "FastGen, arXiv 2310.01801",
        32,
        0,
        false,
        false,
        true,
        "a head keeps sink, + frequent k/2, + local k/2, or all: the least with 95% of its mass"};
    return info;
  }
  std::unique_ptr<SelectorState> make_state() const override {
    return std::make_unique<FastGenState>();
  }
  void observe(SelectorState* state, const Query& query, SelectorScratch&) const override {
    static_cast<FastGenState*>(state)->queries.push(query);
  }
  void select(SelectorState* kept, const Query& query, SelectorScratch& scratch,
              Selection& out) const override {
    auto& state = *static_cast<FastGenState*>(kept);
    if (state.profile == Profile::kNone) {
      state.kept.extend(query.seen - 1);
      state.profile = profile(state, query, scratch);
      state.queries.forget();
    }
    state.kept.extend(query.seen);
    const int32_t half = query.k / 2;
    const bool frequent = state.profile != Profile::kSink, local = state.profile == Profile::kLocal;
    if (state.profile != Profile::kFull)
      state.kept.evict(query.policy->sink, frequent ? half : 0, local ? std::max(1, half) : 1,
                       query.seen, scratch.top);
    out.positions = state.kept.positions();
    if (state.profile != Profile::kFull) state.kept.attend(query, scratch.exact);
  }

 private:
  // Scores the prompt's tokens by the attention they had, and says what keeps enough of it.
  static Profile profile(FastGenState& state, const Query& query, SelectorScratch& scratch) {
    const int32_t prompt = query.seen - 1, half = query.k / 2, sink = query.policy->sink;
    if (state.queries.count() == 0) return Profile::kFull;
    state.queries.each(query, scratch.exact, [&](int32_t seen, const float* mass) {
      for (int32_t t = 0; t < seen; t++) state.kept.add(t, mass[t]);
    });
    std::vector<int32_t> frequent;
    scratch.top.find(state.kept.scores().data(), std::min(sink, prompt), prompt, half, frequent);
    std::vector<bool> is_frequent(static_cast<size_t>(prompt));
    for (const int32_t t : frequent) is_frequent[static_cast<size_t>(t)] = true;
    double mass_of[3] = {}, total = 0;  // sink, + frequent, + local
    state.queries.each(query, scratch.exact, [&](int32_t seen, const float* mass) {
      for (int32_t t = 0; t < seen; t++) {
        total += mass[t];
        const bool first = t < sink || t == seen - 1;
        const bool second = first || is_frequent[static_cast<size_t>(t)];
        const bool third = second || t >= seen - half;
        mass_of[0] += first ? mass[t] : 0;
        mass_of[1] += second ? mass[t] : 0;
        mass_of[2] += third ? mass[t] : 0;
      }
    });
    if (mass_of[0] >= kRecovered * total) return Profile::kSink;
    if (mass_of[1] >= kRecovered * total) return Profile::kFrequent;
    if (mass_of[2] >= kRecovered * total) return Profile::kLocal;
    return Profile::kFull;
  }
};

}  // namespace

const Selector& fastgen_selector() {
  static const FastGen selector;
  return selector;
}

}  // namespace spotlight
