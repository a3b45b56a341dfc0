#include "attention/spotlight/shares.h"

#include <algorithm>

namespace spotlight {
namespace {

// Weights count rows read: scoring a block and reading its summary cost as much as so many.
constexpr int64_t kBlockWeight = 4;
// Fewer blocks are not worth a thread of their own.
constexpr int64_t kLeastBlocks = 4;

}  // namespace

void Shares::add(int32_t blocks, int32_t spread, int32_t newest) {
  const int64_t even = kBlockWeight * blocks + spread;
  item_[items_++] = {blocks, even, weight_};
  weight_ += even + newest;
  least_ = std::max(least_, (kLeastBlocks * even + blocks - 1) / blocks);
}

void Shares::share(int32_t threads) {
  threads_ = static_cast<int32_t>(
      std::clamp<int64_t>(weight_ / least_, 1, std::min(threads, kMostThreads)));
}

int32_t Shares::first_block(int32_t item, int32_t thread) const {
  const Item& of = item_[item];
  if (thread >= threads_) return of.blocks;
  const int64_t weight = weight_ * thread / threads_ - of.before;
  if (weight <= 0) return 0;
  if (weight >= of.even) return of.blocks;
  const int64_t block = weight * of.blocks / of.even;
  // A sliver at an end goes to the neighbour.
  if (block < kLeastBlocks / 2) return 0;
  return block > of.blocks - kLeastBlocks / 2 ? of.blocks : static_cast<int32_t>(block);
}

Shares::Threads Shares::threads_of(int32_t item) const {
  const Item& of = item_[item];
  auto first = static_cast<int32_t>(of.before * threads_ / weight_);
  while (first_block(item, first + 1) == 0) first++;
  int32_t last = first + 1;
  while (first_block(item, last) < of.blocks) last++;
  return {first, last};
}

}  // namespace spotlight
