#include "attention/exact/exact.h"

#include <algorithm>
#include <cstring>
#include <functional>

#include "attention/flash/rows.h"
#include "attention/kernels.h"

namespace spotlight {
namespace {

constexpr int32_t kShift = 19;  // sign, exponent and four bits of the mantissa tell scores apart
constexpr int32_t kBins = 1 << (32 - kShift);

// Floats in the order of unsigned integers.
uint32_t ordered(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

}  // namespace

void Exact::start(int32_t count, int32_t heads) {
  heads_ = heads;
  count_ = count;
  stride_ = (count + 15) / 16 * 16;
  logits_.resize(std::max(logits_.size(), static_cast<size_t>(stride_) * heads));
  mass_.resize(std::max(mass_.size(), static_cast<size_t>(stride_)));
  scratch_.resize(std::max<size_t>(scratch_.size(), rows_scratch(heads)));
}

void Exact::chunk(const KeyView& view, const uint32_t* rows, int32_t from, int32_t count,
                  const float* q) {
  LogitsOp op;
  op.q = q;
  op.group = heads_;
  op.dim = view.arena->head_dim;
  op.k = view.keys();
  op.rows = rows;
  op.count = count;
  op.out = logits_.data() + from;
  op.stride = stride_;
  op.scratch = scratch_.data();
  kernels().exact_logits(op);
}

void Exact::logits(const KeyView& view, int32_t seen, const float* q, int32_t heads) {
  start(seen, heads);
  uint32_t rows[kRowsChunk];
  for (int32_t from = 0; from < seen; from += kRowsChunk) {
    const int32_t count = std::min(kRowsChunk, seen - from);
    for (int32_t i = 0; i < count; i++) rows[i] = view.row(from + i);
    chunk(view, rows, from, count, q);
  }
}

void Exact::logits(const KeyView& view, const std::vector<int32_t>& positions, const float* q,
                   int32_t heads) {
  const auto all = static_cast<int32_t>(positions.size());
  start(all, heads);
  uint32_t rows[kRowsChunk];
  for (int32_t from = 0; from < all; from += kRowsChunk) {
    const int32_t count = std::min(kRowsChunk, all - from);
    for (int32_t i = 0; i < count; i++)
      rows[i] = view.row(positions[static_cast<size_t>(from + i)]);
    chunk(view, rows, from, count, q);
  }
}

void Exact::softmax() {
  if (count_ == 0) return;
  kernels().softmax_mass({logits_.data(), stride_, heads_, count_, mass_.data()});
}

void TopPositions::find(const float* scores, int32_t from, int32_t to, int32_t k,
                        std::vector<int32_t>& out) {
  if (k <= 0 || from >= to) return;
  if (k >= to - from) {
    for (int32_t t = from; t < to; t++) out.push_back(t);
    return;
  }
  // The bin in which the k-th best lies, then the k-th best among those of that bin.
  keys_.resize(static_cast<size_t>(to - from));
  counts_.assign(kBins, 0);
  for (int32_t t = from; t < to; t++) {
    const uint32_t key = ordered(scores[t]);
    keys_[static_cast<size_t>(t - from)] = key;
    counts_[key >> kShift]++;
  }
  int32_t bin = kBins - 1;
  auto wanted = static_cast<uint32_t>(k);
  while (counts_[static_cast<size_t>(bin)] < wanted) wanted -= counts_[static_cast<size_t>(bin--)];
  rest_.clear();
  for (const uint32_t key : keys_)
    if (static_cast<int32_t>(key >> kShift) == bin) rest_.push_back(key);
  std::nth_element(rest_.begin(), rest_.begin() + (wanted - 1), rest_.end(), std::greater<>());
  const uint32_t threshold = rest_[wanted - 1];
  uint32_t above = 0, ties = 0;
  for (const uint32_t key : rest_) {
    above += key > threshold;
    ties += key == threshold;
  }
  uint32_t skip = ties - (wanted - above);  // the oldest of those equal to the threshold
  for (int32_t t = from; t < to; t++) {
    const uint32_t key = keys_[static_cast<size_t>(t - from)];
    if (key < threshold) continue;
    if (key == threshold && skip > 0) {
      skip--;
      continue;
    }
    out.push_back(t);
  }
}

}  // namespace spotlight
