// Shares few items out among the threads of a team: a thread's share is one span of consecutive
// blocks, so it has most items whole and at most the first and the last of its span in common with
// its neighbours. Fixed, not handed out: what a thread has scored lies in its own cache when it
// selects and reads, and fetching it from another core costs more than a perfect balance brings.
#pragma once

#include <cstdint>

namespace spotlight {

class Shares {
 public:
  static constexpr int32_t kMostItems = 16, kMostThreads = 240;
  // Most (item, thread) pairs whose share is not empty.
  static constexpr int32_t kMostUnits = kMostItems + kMostThreads;

  // Items in their order, at most kMostItems: `blocks` scored, `spread` rows read somewhere among
  // them and `newest` rows at their end. Then share() once.
  void add(int32_t blocks, int32_t spread, int32_t newest);
  void share(int32_t threads);

  int32_t blocks(int32_t item) const { return item_[item].blocks; }
  // Thread t's blocks of an item are [first_block(item, t), first_block(item, t + 1)).
  int32_t first_block(int32_t item, int32_t thread) const;
  // Threads that have blocks of an item: [first, last).
  struct Threads {
    int32_t first, last;
  };
  Threads threads_of(int32_t item) const;
  // A number below kMostUnits of its own for each item and thread in threads_of(item); those of an
  // item follow each other.
  static int32_t unit(int32_t item, int32_t thread) { return item + thread; }

 private:
  struct Item {
    int32_t blocks;
    int64_t even;    // weight spread evenly over the blocks; the rest stands at their end
    int64_t before;  // weight of the items before
  };
  int32_t items_ = 0, threads_ = 1;
  int64_t weight_ = 0, least_ = 1;
  Item item_[kMostItems];
};

}  // namespace spotlight
