// h2o: the cache holds k tokens, half of them the newest, half the "heavy hitters": those that have
// had most attention, summed over all queries so far and the group's heads.
#include "attention/selectors/eviction.h"

namespace spotlight {
namespace {

struct H2oState : SelectorState {
  KeptTokens kept;
};

class H2o : public Selector {
 public:
  const SelectorInfo& info() const override {
    static const SelectorInfo info = {
        "h2o", "H2O, arXiv 2306.14048",
        32,    0,
        false, false,
        true,  "keeps the newest k/2 and the k/2 of most attention so far"};
    return info;
  }
  std::unique_ptr<SelectorState> make_state() const override {
    return std::make_unique<H2oState>();
  }
  void observe(SelectorState* state, const Query& query, SelectorScratch& scratch) const override {
    KeptTokens& kept = static_cast<H2oState*>(state)->kept;
    kept.extend(query.seen);
    kept.attend(query, scratch.exact);
  }
  void select(SelectorState* state, const Query& query, SelectorScratch& scratch,
              Selection& out) const override {
    KeptTokens& kept = static_cast<H2oState*>(state)->kept;
    kept.extend(query.seen);
    kept.evict(0, query.k / 2, query.k - query.k / 2, query.seen, scratch.top);
    out.positions = kept.positions();
    kept.attend(query, scratch.exact);
  }
};

}  // namespace

const Selector& h2o_selector() {
  static const H2o selector;
  return selector;
}

}  // namespace spotlight
