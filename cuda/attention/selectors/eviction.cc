#include "attention/selectors/eviction.h"

#include <algorithm>

namespace spotlight {

void KeptTokens::extend(int32_t seen) {
  for (; next_ < seen; next_++) {
    positions_.push_back(next_);
    scores_.push_back(0.0f);
  }
}

void KeptTokens::evict(int32_t sink, int32_t heavy, int32_t recent, int32_t seen,
                       TopPositions& top) {
  const auto index_of = [&](int32_t position) {
    return static_cast<int32_t>(std::lower_bound(positions_.begin(), positions_.end(), position) -
                                positions_.begin());
  };
  const int32_t from = index_of(sink), to = std::max(from, index_of(seen - recent));
  if (to - from <= heavy) return;
  std::vector<int32_t> stay;
  top.find(scores_.data(), from, to, heavy, stay);
  int32_t out = from;
  const auto move = [&](int32_t i) {
    positions_[static_cast<size_t>(out)] = positions_[static_cast<size_t>(i)];
    scores_[static_cast<size_t>(out++)] = scores_[static_cast<size_t>(i)];
  };
  for (const int32_t i : stay) move(i);
  for (int32_t i = to; i < static_cast<int32_t>(positions_.size()); i++) move(i);
  positions_.resize(static_cast<size_t>(out));
  scores_.resize(static_cast<size_t>(out));
}

void KeptTokens::keep(const std::vector<int32_t>& positions) {
  std::vector<float> scores;
  size_t i = 0;
  for (const int32_t position : positions) {
    while (positions_[i] != position) i++;
    scores.push_back(scores_[i]);
  }
  positions_ = positions;
  scores_ = std::move(scores);
}

void KeptTokens::attend(const Query& query, Exact& exact) {
  exact.logits(query.keys, positions_, query.q, query.heads);
  exact.softmax();
  for (size_t i = 0; i < positions_.size(); i++) scores_[i] += exact.mass()[i];
}

void RecentQueries::push(const Query& query) {
  const int32_t floats = query.heads * query.keys.arena->head_dim;
  if (queries_.size() == most_) queries_.pop_front();
  queries_.push_back({query.seen, {query.q, query.q + floats}});
}

}  // namespace spotlight
