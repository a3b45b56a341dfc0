// vattention: a heavy part read exactly (sink, recent and the top tokens, half the budget) and a
// uniform sample of the rest, large enough that the softmax's denominator is within epsilon of the
// truth with probability 1 - delta, by the central limit theorem on a base sample. The heavy part
// is exact top-k ("oracle-top-k" in the paper), so its index is the keys.
#include <algorithm>
#include <cmath>
#include <utility>

#include "attention/selectors/selector.h"
#include "sampling/philox/philox.h"

namespace spotlight {
namespace {

constexpr double kEpsilon = 0.05;
constexpr double kQuantile =
    1.959963984540054;  // of the normal distribution at 1 - delta / 2, delta 0.05
constexpr double kBaseRate = 0.01;
constexpr int32_t kLeastBase = 32;

class VAttention : public Selector {
 public:
  const SelectorInfo& info() const override {
    static const SelectorInfo info = {
        "vattention",
        "vAttention, arXiv 2510.05688",
        0,
        16,
        false,
        true,
        false,
        "half the budget exact top-k, the rest sampled for epsilon 0.05 at delta 0.05"};
    return info;
  }

  void select(SelectorState*, const Query& query, SelectorScratch& scratch,
              Selection& out) const override {
    const int32_t seen = query.seen;
    scratch.exact.logits(query.keys, seen, query.q, query.heads);
    const float* logits = scratch.exact.head(0);
    const int32_t sink = std::min(query.policy->sink, seen);
    const int32_t recent = std::min(std::max(1, query.policy->recent), seen - sink);
    out.positions.clear();
    for (int32_t t = 0; t < sink; t++) out.positions.push_back(t);
    scratch.top.find(logits, sink, seen - recent, query.k / 2 - sink - recent, out.positions);
    for (int32_t t = seen - recent; t < seen; t++) out.positions.push_back(t);

    std::vector<int32_t>& rest = scratch.integers;
    rest.clear();
    for (int32_t t = 0, next = 0; t < seen; t++) {
      if (next < static_cast<int32_t>(out.positions.size()) && out.positions[next] == t)
        next++;
      else
        rest.push_back(t);
    }
    const auto population = static_cast<int32_t>(rest.size());
    if (population == 0) return;
    const int32_t sampled = sample(query, logits, out.positions, rest);
    const auto weight = static_cast<float>(std::log2(static_cast<double>(population) / sampled));
    std::vector<std::pair<int32_t, float>> all;
    for (const int32_t t : out.positions) all.emplace_back(t, 0.0f);
    for (int32_t i = 0; i < sampled; i++) all.emplace_back(rest[static_cast<size_t>(i)], weight);
    std::sort(all.begin(), all.end());
    out.clear();
    for (const auto& [position, bias] : all) {
      out.positions.push_back(position);
      out.bias.push_back(bias);
    }
  }

 private:
  // Shuffles what is sampled to the front of `rest`; how many there are.
  static int32_t sample(const Query& query, const float* logits, const std::vector<int32_t>& heavy,
                        std::vector<int32_t>& rest) {
    const auto population = static_cast<int32_t>(rest.size());
    const uint64_t seed =
        (static_cast<uint64_t>(query.keys.layer) << 32) + static_cast<uint64_t>(query.first_head);
    int32_t drawn = 0;
    const auto draw_to = [&](int32_t count) {
      for (; drawn < count; drawn++) {
        const double u =
            philox_uniform(seed, static_cast<uint64_t>(query.seen), static_cast<uint64_t>(drawn));
        std::swap(
            rest[static_cast<size_t>(drawn)],
            rest[static_cast<size_t>(drawn + static_cast<int32_t>(u * (population - drawn)))]);
      }
    };
    const int32_t base =
        std::min(population, std::max(kLeastBase, static_cast<int32_t>(kBaseRate * population)));
    draw_to(base);
    float top = logits[heavy[0]];
    for (const int32_t t : heavy) top = std::max(top, logits[t]);
    double sure = 0, sum = 0, squares = 0;
    for (const int32_t t : heavy) sure += std::exp2(double{logits[t]} - top);
    for (int32_t i = 0; i < base; i++) {
      const double weight = std::exp2(double{logits[rest[static_cast<size_t>(i)]]} - top);
      sum += weight;
      squares += weight * weight;
    }
    const double mean = sum / base;
    const double variance = base > 1 ? std::max(0.0, (squares - sum * mean) / (base - 1)) : 0;
    const double total = sure + population * mean;
    const double needed = std::pow(kQuantile * population / (kEpsilon * total), 2) * variance;
    draw_to(needed < population ? std::max(base, static_cast<int32_t>(std::ceil(needed)))
                                : population);
    return drawn;
  }
};

}  // namespace

const Selector& vattention_selector() {
  static const VAttention selector;
  return selector;
}

}  // namespace spotlight
