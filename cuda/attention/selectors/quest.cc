// quest: pages of 16 tokens with the least and the greatest value of every channel of their keys; a
// page's score is the greatest logit any key within those bounds could have. Query heads choose
// their own pages, and the page still being filled is always read, as in the authors' code.
#include <algorithm>

#include "attention/half.h"
#include "attention/selectors/selector.h"

namespace spotlight {
namespace {

constexpr int32_t kPage = 16;

struct QuestState : SelectorState {
  int32_t stored = 0;
  std::vector<float> least, greatest;  // [pages, head_dim]
};

class Quest : public Selector {
 public:
  const SelectorInfo& info() const override {
    static const SelectorInfo info = {
        "quest", "Quest, arXiv 2406.10774",
        0,       2.0 * 16 / kPage,
        true,    true,
        false,   "pages of 16 by the upper bound of their logits from each channel's min and max"};
    return info;
  }
  std::unique_ptr<SelectorState> make_state() const override {
    return std::make_unique<QuestState>();
  }
  void index(SelectorState* kept, const KeyView& keys, int32_t stored, int32_t) const override {
    auto& state = *static_cast<QuestState*>(kept);
    const int32_t dim = keys.arena->head_dim;
    for (int32_t t = state.stored; t < stored; t++) {
      const half_bits* key = keys.key(t);
      const size_t page = static_cast<size_t>(t / kPage) * dim;
      if (t % kPage == 0) {
        state.least.resize(page + dim);
        state.greatest.resize(page + dim);
      }
      for (int32_t j = 0; j < dim; j++) {
        const float x = half_to_float(key[j]);
        float& least = state.least[page + j];
        float& greatest = state.greatest[page + j];
        least = t % kPage == 0 ? x : std::min(least, x);
        greatest = t % kPage == 0 ? x : std::max(greatest, x);
      }
    }
    state.stored = std::max(state.stored, stored);
  }
  void select(SelectorState* kept, const Query& query, SelectorScratch& scratch,
              Selection& out) const override {
    const auto& state = *static_cast<const QuestState*>(kept);
    const int32_t dim = query.keys.arena->head_dim;
    const int32_t last = (query.seen - 1) / kPage;  // the newest page; those before it are full
    scratch.floats.resize(static_cast<size_t>(last) + 1);
    for (int32_t page = 0; page < last; page++) {
      const float* least = state.least.data() + static_cast<size_t>(page) * dim;
      const float* greatest = state.greatest.data() + static_cast<size_t>(page) * dim;
      float bound = 0;
      for (int32_t j = 0; j < dim; j++)
        bound += std::max(query.q[j] * least[j], query.q[j] * greatest[j]);
      scratch.floats[static_cast<size_t>(page)] = bound;
    }
    scratch.integers.clear();
    scratch.top.find(scratch.floats.data(), 0, last, std::max(0, query.k / kPage - 1),
                     scratch.integers);
    scratch.integers.push_back(last);
    for (const int32_t page : scratch.integers)
      for (int32_t t = page * kPage; t < std::min(query.seen, (page + 1) * kPage); t++)
        out.positions.push_back(t);
  }
};

}  // namespace

const Selector& quest_selector() {
  static const Quest selector;
  return selector;
}

}  // namespace spotlight
