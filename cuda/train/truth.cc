#include "train/truth.h"

#include <algorithm>
#include <cmath>

#include "error.h"
#include "sampling/exact.h"
#include "sampling/softmax/softmax.h"
#include "train/multiply.h"

namespace spotlight::train {
namespace {

constexpr int32_t kBorder = 8;  // ranks up to this many times those to be found are "near"

}  // namespace

void attention_mass(const Layout& layout, const LayerInput& input, int32_t head, int32_t from,
                    int32_t count, const float* kt, float* mass, float* scratch) {
  const int32_t group = layout.queries_a_head, dim = layout.head_dim;
  const int64_t stride = key_stride(input.tokens);
  float* logits = scratch;
  float* queries = scratch + int64_t{count} * group * stride;
  const float scale = 1 / std::sqrt(static_cast<float>(dim));
  for (int32_t i = 0; i < count; i++) {
    const float* q =
        input.q + (int64_t{from + i} * layout.query_heads + int64_t{head} * group) * dim;
    for (int32_t j = 0; j < group * dim; j++) queries[int64_t{i} * group * dim + j] = q[j] * scale;
  }
  const auto columns = static_cast<int32_t>(key_stride(input.positions[from + count - 1] + 1));
  multiply({queries, dim, 1}, kt, stride, logits, stride, count * group, columns, dim, false);
  for (int32_t i = 0; i < count; i++) {
    const int32_t seen = input.positions[from + i] + 1;
    float* row = mass + i * stride;
    for (int32_t g = 0; g < group; g++) {
      float* x = logits + (int64_t{i} * group + g) * stride;
      const float max = max_of(x, seen);
      for (int32_t j = 0; j < seen; j++) x[j] = exact::exp_straight(x[j] - max);
      const auto one = static_cast<float>(1 / sum_of(x, seen));
      if (!(one > 0 && one <= 1))
        throw Error(kModelCorrupt, "a query's attention is not a number: damaged weights");
      if (g == 0) {
        for (int32_t j = 0; j < seen; j++) row[j] = x[j] * one;
      } else {
        for (int32_t j = 0; j < seen; j++) row[j] += x[j] * one;
      }
    }
  }
}

float TopFinder::find(const float* values, int32_t count, int32_t wanted, int32_t* indexes) {
  // Bits of floats that are not negative are in their order: a histogram of the upper ones finds
  // the bin of the last value taken, and only that bin is sorted.
  constexpr int kShift = 19;
  uint32_t histogram[1u << (32 - kShift - 1)] = {};
  for (int32_t i = 0; i < count; i++) histogram[exact::bits_of(values[i]) >> kShift]++;
  int32_t above = 0;
  auto bin = static_cast<uint32_t>(std::size(histogram));
  while (bin > 0 && above + static_cast<int32_t>(histogram[bin - 1]) < wanted)
    above += static_cast<int32_t>(histogram[--bin]);
  bin--;
  candidates_.clear();
  for (int32_t i = 0; i < count; i++)
    if (exact::bits_of(values[i]) >> kShift == bin) candidates_.push_back(i);
  const int32_t rest = wanted - above;
  const auto before = [&](int32_t a, int32_t b) {
    return values[a] != values[b] ? values[a] > values[b] : a > b;
  };
  std::nth_element(candidates_.begin(), candidates_.begin() + (rest - 1), candidates_.end(),
                   before);
  const int32_t last = candidates_[static_cast<size_t>(rest) - 1];
  int32_t found = 0;
  for (int32_t i = 0; i < count; i++)
    if (i == last || before(i, last)) indexes[found++] = i;
  return values[last];
}

void PairDrawer::draw(const Recipe& recipe, const Draws& draws, int32_t head, int32_t row,
                      int32_t position, const float* mass, int32_t wanted, PairDraw& pairs) {
  pairs.top.clear();
  pairs.other.clear();
  pairs.weight.clear();
  const int32_t seen = position + 1;
  if (position < wanted) return;
  top_.resize(static_cast<size_t>(wanted));
  const float least = finder_.find(mass, seen, wanted, top_.data());
  const auto draw = [&](Purpose purpose, int32_t below, int32_t n) {
    Draws own = draws;
    own.purpose = purpose;
    return own.below(below, static_cast<uint32_t>(head), static_cast<uint32_t>(row),
                     static_cast<uint32_t>(n));
  };
  for (int32_t n = 0; n < recipe.top; n++)
    pairs.top.push_back(top_[static_cast<size_t>(draw(Purpose::kTop, wanted, n))]);
  const auto near = static_cast<int32_t>(std::lround(recipe.border * recipe.other));
  near_.clear();
  if (near > 0) {
    border_.resize(static_cast<size_t>(std::min(seen, kBorder * wanted)));
    finder_.find(mass, seen, static_cast<int32_t>(border_.size()), border_.data());
    for (const int32_t j : border_)
      if (mass[j] < least) near_.push_back(j);
  }
  for (int32_t n = 0; n < recipe.other; n++) {
    const bool from_near = n < near && !near_.empty();
    const int32_t j = from_near ? near_[static_cast<size_t>(draw(
                                      Purpose::kBorder, static_cast<int32_t>(near_.size()), n))]
                                : draw(Purpose::kOther, seen, n);
    if (mass[j] < least) pairs.other.push_back(j);
  }
  weigh(recipe.mass_weights, mass, pairs);
}

void weigh(bool by_mass, const float* mass, PairDraw& pairs) {
  pairs.weight.assign(pairs.top.size(), 1.f);
  if (!by_mass) return;
  double sum = 0;
  for (size_t i = 0; i < pairs.top.size(); i++)
    sum += pairs.weight[i] = std::sqrt(mass[pairs.top[i]]);
  const float mean =
      std::max(1e-9f, static_cast<float>(sum / static_cast<double>(pairs.top.size())));
  for (float& weight : pairs.weight) weight /= mean;
}

}  // namespace spotlight::train
