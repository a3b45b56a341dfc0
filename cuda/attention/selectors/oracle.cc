// oracle and oracle-head: the k tokens to which full attention gives most mass, summed over the
// group of query heads, or of each query head alone. The bounds for methods that choose one set a
// KV head or a query head and renormalise; they read every key to know it.
#include "attention/selectors/selector.h"

namespace spotlight {
namespace {

class Oracle : public Selector {
 public:
  explicit Oracle(bool per_query_head) : per_query_head_(per_query_head) {}
  const SelectorInfo& info() const override {
    static const SelectorInfo group = {
        "oracle", "exact top-k",
        0,        16,
        true,     false,
        false,    "the k tokens of most softmax mass, summed over the group's query heads"};
    static const SelectorInfo head = {
        "oracle-head", "exact top-k", 0,     16,
        true,          true,          false, "the same, each query head choosing its own k"};
    return per_query_head_ ? head : group;
  }
  void select(SelectorState*, const Query& query, SelectorScratch& scratch,
              Selection& out) const override {
    scratch.exact.logits(query.keys, query.seen, query.q, query.heads);
    scratch.exact.softmax();
    scratch.top.find(scratch.exact.mass(), 0, query.seen, query.k, out.positions);
  }

 private:
  bool per_query_head_;
};

}  // namespace

const Selector& oracle_selector() {
  static const Oracle selector(false);
  return selector;
}

const Selector& oracle_head_selector() {
  static const Oracle selector(true);
  return selector;
}

}  // namespace spotlight
