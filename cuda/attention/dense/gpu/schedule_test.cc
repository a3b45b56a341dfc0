#include "attention/dense/gpu/schedule.h"

#include <map>
#include <random>
#include <set>

#include "attention/backend.h"
#include "test/check.h"

namespace spotlight::gpu {
namespace {

constexpr int kMultiprocessors = 132;

DenseShape shape_of(int32_t query_heads, int32_t kv_heads) {
  DenseShape shape;
  shape.query_heads = query_heads;
  shape.kv_heads = kv_heads;
  shape.head_dim = 128;
  shape.max_rows = 64;
  shape.max_tokens = 4096;
  shape.seats = 64;
  shape.table_stride = 2048;
  return shape;
}

std::vector<DenseRow> mixed_rows(std::mt19937& random, int32_t count) {
  std::vector<DenseRow> rows;
  int32_t first = 0;
  for (int32_t i = 0; i < count; i++) {
    const int32_t tokens = random() % 2 ? 1 : 2 + static_cast<int32_t>(random() % 700);
    const int32_t context =
        tokens + static_cast<int32_t>(random() % (random() % 4 ? 3000 : 130000));
    first += static_cast<int32_t>(random() % 3);
    rows.push_back({first, tokens, context, static_cast<int32_t>(63 - i)});
    first += tokens;
  }
  return rows;
}

TEST(every_key_of_a_decode_row_is_in_one_piece) {
  std::mt19937 random(1);
  for (int round = 0; round < 200; round++) {
    const DenseShape shape = round % 2 ? shape_of(28, 4) : shape_of(32, 8);
    const auto rows = mixed_rows(random, 1 + static_cast<int32_t>(random() % 40));
    std::vector<DenseRow> single;
    for (const DenseRow& row : rows)
      if (row.tokens == 1) single.push_back(row);
    const auto bucket = static_cast<int32_t>(single.size() + random() % 5);
    DecodeSchedule plan;
    schedule_decode(shape, kMultiprocessors, rows.data(), static_cast<int32_t>(rows.size()), bucket,
                    plan);
    CHECK_EQ(plan.rows, static_cast<int32_t>(single.size()));
    CHECK_EQ(static_cast<int32_t>(plan.piece_row.size()),
             most_pieces(shape, kMultiprocessors, bucket));
    CHECK_EQ(plan.chunk_tokens % kBlockSize, 0);
    size_t piece = 0;
    for (int32_t row = 0; row < bucket; row++) {
      CHECK_EQ(plan.part[row], static_cast<int32_t>(piece));
      if (row >= plan.rows) {
        CHECK_EQ(plan.token[row], -1);
        continue;
      }
      CHECK_EQ(plan.token[row], single[row].first);
      CHECK_EQ(plan.table[row], single[row].seat * shape.table_stride);
      for (int32_t begin = 0; begin < single[row].context; begin += plan.chunk_tokens, piece++) {
        CHECK(plan.piece_valid[piece] == 1);
        CHECK_EQ(plan.piece_row[piece], row);
        CHECK_EQ(plan.piece_chunk[piece] * plan.chunk_tokens, begin);
      }
    }
    CHECK_EQ(plan.part[bucket], static_cast<int32_t>(piece));
    for (; piece < plan.piece_valid.size(); piece++) CHECK(plan.piece_valid[piece] == 0);
    CHECK_EQ(plan.table[bucket], shape.seats * shape.table_stride);
  }
}

TEST(one_long_row_fills_the_machine) {
  const DenseShape shape = shape_of(28, 4);
  const DenseRow row{0, 1, 131072, 0};
  DecodeSchedule plan;
  schedule_decode(shape, kMultiprocessors, &row, 1, 1, plan);
  CHECK(plan.part[1] >= 60);
  CHECK(plan.part[1] <= 66);  // two blocks a multiprocessor, four KV heads
}

TEST(every_query_tile_is_worked_on_once_and_loads_are_even) {
  std::mt19937 random(2);
  for (int round = 0; round < 50; round++) {
    const DenseShape shape = shape_of(28, 4);
    const auto rows = mixed_rows(random, 12);
    PrefillSchedule plan;
    schedule_prefill(shape, kMultiprocessors, 128, rows.data(), 12, plan);
    std::map<int32_t, std::set<std::pair<int32_t, int32_t>>> seen;
    CHECK_EQ(static_cast<int>(plan.work_start.size()), kMultiprocessors + 1);
    CHECK_EQ(plan.work_start.front(), 0);
    CHECK_EQ(plan.work_start.back(), static_cast<int32_t>(plan.tile.size()));
    for (size_t i = 0; i < plan.tile.size(); i++) {
      const DenseRow& row = rows[plan.row[i]];
      CHECK_EQ(plan.first[i], row.first);
      CHECK_EQ(plan.tokens[i], row.tokens);
      CHECK_EQ(plan.context[i], row.context);
      CHECK_EQ(plan.table[i], row.seat * shape.table_stride);
      CHECK(plan.tile[i] * 128 < row.tokens);
      CHECK(seen[plan.row[i]].emplace(plan.tile[i], plan.head[i]).second);
    }
    for (int32_t i = 0; i < 12; i++)
      CHECK_EQ(static_cast<int32_t>(seen[i].size()),
               rows[i].tokens == 1 ? 0 : 28 * ((rows[i].tokens + 127) / 128));
  }
  const DenseRow row{0, 8192, 8192, 0};
  PrefillSchedule plan;
  schedule_prefill(shape_of(28, 4), kMultiprocessors, 128, &row, 1, plan);
  int64_t most = 0, all = 0;
  for (int i = 0; i < kMultiprocessors; i++) {
    int64_t load = 0;
    for (int32_t j = plan.work_start[i]; j < plan.work_start[i + 1]; j++)
      load += 128 * (plan.tile[j] + 3);
    most = std::max(most, load);
    all += load;
  }
  CHECK(most < all / kMultiprocessors * 1.15);
}

TEST(packed_tiles_cover_every_head_of_every_query) {
  std::mt19937 random(3);
  const auto rows = mixed_rows(random, 20);
  TileSchedule plan;
  schedule_tiles(shape_of(28, 4), 128, rows.data(), 20, plan);
  std::map<int32_t, std::set<int32_t>> seen;
  for (size_t i = 0; i < plan.tile.size(); i++)
    CHECK(seen[plan.first[plan.row[i]]].insert(plan.tile[i]).second);
  size_t several = 0;
  for (const DenseRow& row : rows) {
    if (row.tokens == 1) continue;
    several++;
    CHECK_EQ(static_cast<int32_t>(seen[row.first].size()), (row.tokens * 7 + 127) / 128);
    CHECK_EQ(*seen[row.first].rbegin(), (row.tokens * 7 - 1) / 128);
  }
  CHECK_EQ(plan.first.size(), several);
  CHECK_EQ(plan.table.size(), several + 1);
}

}  // namespace
}  // namespace spotlight::gpu
