// lsh and lsh-head: 128 random hyperplanes a layer and KV head, one sign bit each; a token's score
// is how many bits its key shares with the query's. What the learned codes are measured against.
#include <algorithm>

#include "attention/half.h"
#include "attention/selectors/planes.h"
#include "attention/selectors/selector.h"

namespace spotlight {
namespace {

constexpr int32_t kBits = 128, kWords = kBits / 64;

struct Code {
  uint64_t words[kWords];
};

struct LshState : SelectorState {
  std::vector<float> planes;  // [head_dim, kBits]
  std::vector<Code> codes;    // [tokens]
};

Code code_of(const std::vector<float>& planes, const float* x, int32_t dim) {
  float z[kBits];
  project_on_planes(planes, x, dim, kBits, z);
  Code code = {};
  for (int32_t j = 0; j < kBits; j++)
    code.words[j / 64] |= static_cast<uint64_t>(z[j] > 0) << (j % 64);
  return code;
}

class Lsh : public Selector {
 public:
  explicit Lsh(bool per_query_head) : per_query_head_(per_query_head) {}
  const SelectorInfo& info() const override {
    static const SelectorInfo group = {
        "lsh",
        "SimHash, Charikar 2002",
        kBits,
        0,
        true,
        false,
        false,
        "the k tokens whose random sign code shares most bits with those of the group's queries"};
    static const SelectorInfo head = {"lsh-head", "SimHash, Charikar 2002",
                                      kBits,      0,
                                      true,       true,
                                      false,      "the same, each query head choosing its own k"};
    return per_query_head_ ? head : group;
  }
  std::unique_ptr<SelectorState> make_state() const override {
    return std::make_unique<LshState>();
  }
  void index(SelectorState* kept, const KeyView& keys, int32_t stored, int32_t) const override {
    auto& state = *static_cast<LshState*>(kept);
    const int32_t dim = keys.arena->head_dim;
    if (state.planes.empty())
      state.planes = random_planes(
          static_cast<uint64_t>(keys.layer) * keys.arena->kv_heads + keys.head, dim, kBits);
    std::vector<float> key(static_cast<size_t>(dim));
    for (auto t = static_cast<int32_t>(state.codes.size()); t < stored; t++) {
      std::transform(keys.key(t), keys.key(t) + dim, key.begin(), half_to_float);
      state.codes.push_back(code_of(state.planes, key.data(), dim));
    }
  }
  void select(SelectorState* kept, const Query& query, SelectorScratch& scratch,
              Selection& out) const override {
    const auto& state = *static_cast<const LshState*>(kept);
    const int32_t dim = query.keys.arena->head_dim;
    scratch.floats.assign(static_cast<size_t>(query.seen), 0.0f);
    for (int32_t h = 0; h < query.heads; h++) {
      const Code code = code_of(state.planes, query.q + static_cast<int64_t>(h) * dim, dim);
      for (int32_t t = 0; t < query.seen; t++) {
        const Code& key = state.codes[static_cast<size_t>(t)];
        scratch.floats[static_cast<size_t>(t)] -=
            static_cast<float>(__builtin_popcountll(key.words[0] ^ code.words[0]) +
                               __builtin_popcountll(key.words[1] ^ code.words[1]));
      }
    }
    scratch.top.find(scratch.floats.data(), 0, query.seen, query.k, out.positions);
  }

 private:
  bool per_query_head_;
};

}  // namespace

const Selector& lsh_selector() {
  static const Lsh selector(false);
  return selector;
}

const Selector& lsh_head_selector() {
  static const Lsh selector(true);
  return selector;
}

}  // namespace spotlight
