// magicpig: L hash tables of K random sign bits; a key is sampled when it falls into the query's
// bucket in at least two tables, and its logit is lowered by the log of the chance of that, so that
// the softmax is an importance-weighted estimate of the full one. Keys are centred on the mean of
// those stored when the first query selects. How many tokens are read follows from K and L; the
// budget does not bind.
#include <algorithm>
#include <cmath>
#include <map>
#include <mutex>

#include "attention/half.h"
#include "attention/selectors/planes.h"
#include "attention/selectors/selector.h"

namespace spotlight {
namespace {

constexpr int32_t kK = 10, kL = 150, kPlanesUsed = kK * kL;
constexpr uint64_t kSeed = 0x6d616769637069;  // apart from lsh's

struct MagicPigState : SelectorState {
  bool centred = false;
  int32_t stored = 0;
  std::vector<float> centre;                  // [head_dim]
  std::vector<std::vector<uint16_t>> tables;  // [L][tokens] bucket of each key
};

class MagicPig : public Selector {
 public:
  const SelectorInfo& info() const override {
    static const SelectorInfo info = {
        "magicpig",
        "MagicPIG, arXiv 2410.16179",
        kPlanesUsed,
        0,
        false,
        true,
        false,
        "LSH sampling, K 10 and L 150, importance weights; sink and recent tokens besides"};
    return info;
  }
  std::unique_ptr<SelectorState> make_state() const override {
    return std::make_unique<MagicPigState>();
  }

  void index(SelectorState* kept, const KeyView& keys, int32_t stored,
             int32_t dense) const override {
    auto& state = *static_cast<MagicPigState*>(kept);
    const int32_t dim = keys.arena->head_dim;
    if (!state.centred) {
      state.centred = true;
      state.tables.resize(kL);
      state.centre.assign(static_cast<size_t>(dim), 0.0f);
      for (int32_t t = 0; t < dense; t++)
        for (int32_t j = 0; j < dim; j++)
          state.centre[static_cast<size_t>(j)] += half_to_float(keys.key(t)[j]);
      for (float& x : state.centre) x /= static_cast<float>(std::max(1, dense));
    }
    std::vector<float> key(static_cast<size_t>(dim)), z(kPlanesUsed);
    for (int32_t t = state.stored; t < stored; t++) {
      for (int32_t j = 0; j < dim; j++)
        key[static_cast<size_t>(j)] =
            half_to_float(keys.key(t)[j]) - state.centre[static_cast<size_t>(j)];
      project_on_planes(planes(dim), key.data(), dim, kPlanesUsed, z.data());
      for (int32_t l = 0; l < kL; l++)
        state.tables[static_cast<size_t>(l)].push_back(bucket(z.data() + l * kK));
    }
    state.stored = std::max(state.stored, stored);
  }

  void select(SelectorState* kept, const Query& query, SelectorScratch& scratch,
              Selection& out) const override {
    const auto& state = *static_cast<const MagicPigState*>(kept);
    const int32_t dim = query.keys.arena->head_dim, seen = query.seen;
    scratch.floats.resize(kPlanesUsed);
    project_on_planes(planes(dim), query.q, dim, kPlanesUsed, scratch.floats.data());
    scratch.words.assign(static_cast<size_t>(seen), 0);
    uint16_t* collisions = scratch.words.data();
    for (int32_t l = 0; l < kL; l++) {
      const uint16_t wanted = bucket(scratch.floats.data() + l * kK);
      const uint16_t* table = state.tables[static_cast<size_t>(l)].data();
      for (int32_t t = 0; t < seen; t++) collisions[t] += table[t] == wanted;
    }
    const int32_t sink = query.policy->sink, recent = std::max(1, query.policy->recent);
    for (int32_t t = 0; t < seen; t++) {
      const bool always = t < sink || t >= seen - recent;
      if (!always && collisions[t] < 2) continue;
      out.positions.push_back(t);
      out.bias.push_back(always ? 0.0f : -log2_chance(state, query, t));
    }
  }

 private:
  static uint16_t bucket(const float* z) {
    uint16_t bits = 0;
    for (int32_t j = 0; j < kK; j++) bits |= static_cast<uint16_t>((z[j] > 0) << j);
    return bits;
  }

  // The chance that a key at this angle is sampled; the authors add 1e-4 to keep its log finite.
  static float log2_chance(const MagicPigState& state, const Query& query, int32_t t) {
    const int32_t dim = query.keys.arena->head_dim;
    const half_bits* key = query.keys.key(t);
    double dot = 0, key_norm = 0, query_norm = 0;
    for (int32_t j = 0; j < dim; j++) {
      const double k = half_to_float(key[j]) - state.centre[static_cast<size_t>(j)];
      dot += k * query.q[j];
      key_norm += k * k;
      query_norm += double{query.q[j]} * query.q[j];
    }
    const double cosine = dot / std::max(1e-20, std::sqrt(key_norm * query_norm));
    const double p = 1 - std::acos(std::clamp(cosine, -1.0, 1.0)) / 3.14159265358979323846;
    const double one = std::pow(p, kK);  // one table
    const double none = std::pow(1 - one, kL - 1);
    return static_cast<float>(std::log2(1 - none * (1 - one) - kL * one * none + 1e-4));
  }

  // The same for every layer and head: tables of different keys need no planes of their own.
  const std::vector<float>& planes(int32_t dim) const {
    const std::lock_guard<std::mutex> lock(mutex_);
    std::vector<float>& made = planes_[dim];
    if (made.empty()) made = random_planes(kSeed, dim, kPlanesUsed);
    return made;
  }
  mutable std::mutex mutex_;
  mutable std::map<int32_t, std::vector<float>> planes_;
};

}  // namespace

const Selector& magicpig_selector() {
  static const MagicPig selector;
  return selector;
}

}  // namespace spotlight
