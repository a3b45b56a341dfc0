// What the methods that evict share: the tokens still kept, with the attention each has had so far,
// and the last few queries before the first that selects. What is evicted never comes back, though
// its keys lie in the cache: an evaluation of the rule, not of the memory it would save.
#pragma once

#include <cstdint>
#include <deque>
#include <vector>

#include "attention/selectors/selector.h"

namespace spotlight {

class KeptTokens {
 public:
  // Adds the positions not seen yet, below `seen`.
  void extend(int32_t seen);
  // Evicts all but the first `sink` positions, the newest `recent` of `seen`, and of the others the
  // `heavy` that have had most attention.
  void evict(int32_t sink, int32_t heavy, int32_t recent, int32_t seen, TopPositions& top);
  // Keeps these alone, ascending, all kept so far.
  void keep(const std::vector<int32_t>& positions);
  // The group's attention over the tokens kept, added to their scores.
  void attend(const Query& query, Exact& exact);
  void add(int32_t index, float mass) { scores_[static_cast<size_t>(index)] += mass; }

  const std::vector<int32_t>& positions() const { return positions_; }
  const std::vector<float>& scores() const { return scores_; }

 private:
  int32_t next_ = 0;  // first position never added
  std::vector<int32_t> positions_;
  std::vector<float> scores_;
};

// The newest `most` queries shown, as they were.
class RecentQueries {
 public:
  struct Seen {
    int32_t seen;
    std::vector<float> q;  // [heads, head_dim]
  };
  explicit RecentQueries(size_t most) : most_(most) {}
  void push(const Query& query);
  void forget() { queries_.clear(); }
  // Calls visit(seen, mass) with the softmax mass each of them gives, summed over the heads.
  template <typename Visit>
  void each(const Query& now, Exact& exact, Visit visit) const {
    for (const Seen& one : queries_) {
      exact.logits(now.keys, one.seen, one.q.data(), now.heads);
      exact.softmax();
      visit(one.seen, exact.mass());
    }
  }
  int32_t count() const { return static_cast<int32_t>(queries_.size()); }

 private:
  size_t most_;
  std::deque<Seen> queries_;
};

}  // namespace spotlight
