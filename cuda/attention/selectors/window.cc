// window: the first tokens and the newest, nothing between (StreamingLLM's attention sinks).
#include <algorithm>

#include "attention/selectors/selector.h"

namespace spotlight {
namespace {

class Window : public Selector {
 public:
  const SelectorInfo& info() const override {
    static const SelectorInfo info = {"window", "StreamingLLM, arXiv 2309.17453",
                                      0,        0,
                                      true,     false,
                                      false,    "the first `sink` tokens and the newest k - sink"};
    return info;
  }
  void select(SelectorState*, const Query& query, SelectorScratch&, Selection& out) const override {
    const int32_t sink = std::min(query.policy->sink, query.k);
    for (int32_t t = 0; t < sink; t++) out.positions.push_back(t);
    for (int32_t t = std::max(sink, query.seen - (query.k - sink)); t < query.seen; t++)
      out.positions.push_back(t);
  }
};

}  // namespace

const Selector& window_selector() {
  static const Window selector;
  return selector;
}

}  // namespace spotlight
