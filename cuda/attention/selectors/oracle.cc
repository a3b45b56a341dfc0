// oracle: the k tokens to which full attention gives most mass, summed over the group of query
// heads. The bound for methods that choose one set a KV head and renormalise; it reads every key to
// know it.
#include "attention/selectors/selector.h"

namespace spotlight {
namespace {

class Oracle : public Selector {
 public:
  const SelectorInfo& info() const override {
    static const SelectorInfo info = {
        "oracle", "exact top-k",
        0,        16,
        true,     false,
        false,    "the k tokens of most softmax mass, summed over the group's query heads"};
    return info;
  }
  void select(SelectorState*, const Query& query, SelectorScratch& scratch,
              Selection& out) const override {
    scratch.exact.logits(query.keys, query.seen, query.q, query.heads);
    scratch.exact.softmax();
    scratch.top.find(scratch.exact.mass(), 0, query.seen, query.k, out.positions);
  }
};

}  // namespace

const Selector& oracle_selector() {
  static const Oracle selector;
  return selector;
}

}  // namespace spotlight
