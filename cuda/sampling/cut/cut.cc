#include "sampling/cut/cut.h"

#include <algorithm>
#include <cmath>

#include "sampling/exact.h"
#include "sampling/softmax/softmax.h"

namespace spotlight {
namespace {

constexpr int32_t kTile = 64;

struct InOrder {
  const float* x;
  bool operator()(int32_t a, int32_t b) const { return x[a] > x[b] || (x[a] == x[b] && a < b); }
};

bool tighter(const Cut& a, const Cut& b) {
  return a.logit > b.logit || (a.logit == b.logit && a.id < b.id);
}

}  // namespace

void top_tokens(const float* x, int32_t count, int32_t k, std::vector<int32_t>& tokens,
                std::vector<float>& scratch) {
  k = std::min(k, count);
  tokens.clear();
  // The k-th largest of the tiles' maxima is reached by at least k tokens: only tokens at or above
  // it can be among the first k.
  const int32_t tiles = (count + kTile - 1) / kTile;
  float floor = -std::numeric_limits<float>::infinity();
  if (k < tiles) {
    scratch.resize(tiles);
    for (int32_t tile = 0; tile < tiles; tile++)
      scratch[tile] = max_of(x + tile * kTile, std::min(kTile, count - tile * kTile));
    std::vector<float>& order = scratch;
    order.insert(order.end(), scratch.begin(), scratch.begin() + tiles);
    std::nth_element(order.begin() + tiles, order.begin() + tiles + k - 1, order.end(),
                     [](float a, float b) { return a > b; });
    floor = order[tiles + k - 1];
    for (int32_t tile = 0; tile < tiles; tile++) {
      if (scratch[tile] < floor) continue;
      const int32_t end = std::min(count, (tile + 1) * kTile);
      for (int32_t i = tile * kTile; i < end; i++)
        if (x[i] >= floor) tokens.push_back(i);
    }
  } else {
    for (int32_t i = 0; i < count; i++) tokens.push_back(i);
  }
  std::partial_sort(tokens.begin(), tokens.begin() + k, tokens.end(), InOrder{x});
  tokens.resize(k);
}

void cut_min_p(float max, float min_p, Cut& cut) {
  if (min_p <= 0) return;
  const Cut own{max + std::log(std::min(min_p, 1.f)), std::numeric_limits<int32_t>::max()};
  if (tighter(own, cut)) cut = own;
}

void cut_top_k(const float* x, int32_t count, int32_t k, Cut& cut, std::vector<int32_t>& tokens,
               std::vector<float>& scratch) {
  if (k <= 0 || k >= count) return;
  top_tokens(x, count, k, tokens, scratch);
  const Cut own{x[tokens.back()], tokens.back()};
  if (tighter(own, cut)) cut = own;
}

void cut_top_p(const float* x, const float* weights, int32_t count, float max, float top_p,
               Cut& cut, std::vector<int32_t>& tokens) {
  if (top_p >= 1) return;
  // Bins by distance below the maximum, an eighth of a nat each: find the one where the share is
  // reached, order only that one.
  constexpr int kBins = 512;
  constexpr float kBinsPerNat = 8;
  // Masses are integers: the cut is the same in whatever order a device adds them up.
  uint64_t mass[kBins] = {};
  uint64_t total = 0;
  const auto bin_of = [max](float logit) {
    return std::min(static_cast<int>(std::min((max - logit) * kBinsPerNat, kBins - 1.f)),
                    kBins - 1);
  };
  for (int32_t i = 0; i < count; i++) {
    if (weights[i] == 0 || !cut.keeps(x[i], i)) continue;
    const uint64_t own = exact::mass_of(weights[i]);
    mass[bin_of(x[i])] += own;
    total += own;
  }
  uint64_t before = 0;
  int bin = 0;
  while (bin + 1 < kBins && !exact::reaches(before + mass[bin], top_p, total))
    before += mass[bin++];
  tokens.clear();
  for (int32_t i = 0; i < count; i++)
    if (weights[i] > 0 && cut.keeps(x[i], i) && bin_of(x[i]) == bin) tokens.push_back(i);
  if (tokens.empty()) return;  // rounding left nothing beyond the last full bin: everything is kept
  std::sort(tokens.begin(), tokens.end(), InOrder{x});
  size_t last = 0;
  for (uint64_t sum = before + exact::mass_of(weights[tokens[0]]);
       !exact::reaches(sum, top_p, total) && last + 1 < tokens.size();
       sum += exact::mass_of(weights[tokens[last]]))
    last++;
  const Cut own{x[tokens[last]], tokens[last]};
  if (tighter(own, cut)) cut = own;
}

}  // namespace spotlight
