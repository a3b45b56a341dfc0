// Spans of threads over items: everything exactly once, numbered apart, of like size.
#include "attention/spotlight/shares.h"

#include <algorithm>
#include <set>
#include <vector>

#include "test/check.h"

namespace spotlight {
namespace {

struct Wanted {
  int32_t blocks, spread, newest;
};

// Blocks of each thread, after checks that hold for every sharing.
std::vector<int32_t> check_shares(const std::vector<Wanted>& items, int32_t threads) {
  Shares shares;
  for (const Wanted& item : items) shares.add(item.blocks, item.spread, item.newest);
  shares.share(threads);
  std::vector<int32_t> held(threads);
  std::set<int32_t> units;
  for (int32_t i = 0; i < static_cast<int32_t>(items.size()); i++) {
    CHECK_EQ(shares.blocks(i), items[i].blocks);
    CHECK_EQ(shares.first_block(i, 0), 0);
    CHECK_EQ(shares.first_block(i, threads), items[i].blocks);
    const Shares::Threads with = shares.threads_of(i);
    CHECK(0 <= with.first && with.first < with.last && with.last <= threads);
    for (int32_t t = 0; t < threads; t++) {
      const int32_t count = shares.first_block(i, t + 1) - shares.first_block(i, t);
      CHECK(count >= 0);
      CHECK_EQ(count > 0, with.first <= t && t < with.last);
      held[t] += count;
      if (count == 0) continue;
      CHECK(units.insert(Shares::unit(i, t)).second);
      CHECK(Shares::unit(i, t) < Shares::kMostUnits);
    }
  }
  return held;
}

TEST(every_block_belongs_to_one_thread_and_every_part_has_its_number) {
  for (int32_t threads = 1; threads <= 300; threads += threads < 20 ? 1 : 31)
    for (int32_t count = 1; count <= Shares::kMostItems; count++)
      for (const int32_t blocks : {1, 2, 3, 5, 18, 124, 2048}) {
        std::vector<Wanted> like(count, {blocks, 192, 128}), unlike;
        for (int32_t i = 0; i < count; i++)
          unlike.push_back({1 + (i * 37 + blocks) % 200, i * 5, (i * 29) % 128});
        check_shares(like, threads);
        check_shares(unlike, threads);
      }
}

TEST(three_heads_fill_two_threads) {
  const std::vector<int32_t> held = check_shares(std::vector<Wanted>(3, {124, 192, 92}), 2);
  CHECK_EQ(held[0] + held[1], 3 * 124);
  // The second thread has the newest rows of two heads to read, the first of one only.
  CHECK(held[0] > held[1] && held[0] - held[1] < 40);
}

TEST(threads_without_enough_to_do_have_nothing) {
  const std::vector<int32_t> held = check_shares({{6, 40, 10}}, 8);
  for (const int32_t blocks : held) CHECK(blocks == 0 || blocks >= 2);
  CHECK(std::count(held.begin(), held.end(), 0) >= 6);
}

}  // namespace
}  // namespace spotlight
