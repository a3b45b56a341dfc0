#include "attention/dense/gpu/schedule.h"

#include <algorithm>
#include <functional>
#include <queue>
#include <utility>

#include "attention/backend.h"

namespace spotlight::gpu {
namespace {

constexpr int32_t kBlocksAMultiprocessor = 2;
constexpr int32_t kSmallestChunk = 128;
// What starting and ending a piece costs, in tokens of keys read.
constexpr int32_t kPieceOverhead = 192;

int32_t ceil_div(int64_t a, int64_t b) { return static_cast<int32_t>((a + b - 1) / b); }

// Pieces that run at once.
int32_t slots(const DenseShape& shape, int32_t multiprocessors) {
  return std::max(1, kBlocksAMultiprocessor * multiprocessors / shape.kv_heads);
}

int64_t pieces_of(const std::vector<int32_t>& contexts, int32_t rows, int32_t chunk) {
  int64_t pieces = 0;
  for (int32_t i = 0; i < rows; i++) pieces += ceil_div(contexts[i], chunk);
  return pieces;
}

// The shortest chunk, a multiple of 64, with which the rows make at most `limit` pieces.
int32_t shortest_chunk(const std::vector<int32_t>& contexts, int32_t rows, int32_t limit) {
  int32_t longest = 1;
  for (int32_t i = 0; i < rows; i++) longest = std::max(longest, contexts[i]);
  int32_t low = kSmallestChunk / kBlockSize;
  int32_t high = std::max(low, ceil_div(longest, kBlockSize));
  while (low < high) {
    const int32_t middle = low + (high - low) / 2;
    if (pieces_of(contexts, rows, middle * kBlockSize) <= limit)
      high = middle;
    else
      low = middle + 1;
  }
  return low * kBlockSize;
}

// Rows of several tokens.
std::vector<int32_t> longest_first(const DenseRow* rows, int32_t count) {
  std::vector<int32_t> order;
  for (int32_t i = 0; i < count; i++)
    if (rows[i].tokens > 1) order.push_back(i);
  std::stable_sort(order.begin(), order.end(),
                   [&](int32_t a, int32_t b) { return rows[a].context > rows[b].context; });
  return order;
}

}  // namespace

int32_t most_pieces(const DenseShape& shape, int32_t multiprocessors, int32_t bucket) {
  return bucket == 0 ? 0 : bucket - 1 + slots(shape, multiprocessors);
}

void schedule_decode(const DenseShape& shape, int32_t multiprocessors, const DenseRow* rows,
                     int32_t count, int32_t bucket, DecodeSchedule& schedule) {
  schedule.rows = 0;
  schedule.token.assign(bucket, -1);
  schedule.context.assign(bucket, 0);
  schedule.table.assign(bucket + 1, 0);
  for (int32_t i = 0; i < count; i++) {
    if (rows[i].tokens != 1) continue;
    const int32_t at = schedule.rows++;
    schedule.token[at] = rows[i].first;
    schedule.context[at] = rows[i].context;
    schedule.table[at] = rows[i].seat * shape.table_stride;
  }
  schedule.table[bucket] = shape.seats * shape.table_stride;

  // One wave of pieces, or as many as there may be, whichever is done sooner.
  const int32_t most = most_pieces(shape, multiprocessors, bucket);
  const int32_t at_once = slots(shape, multiprocessors);
  int64_t best = INT64_MAX;
  schedule.chunk_tokens = kSmallestChunk;
  for (const int32_t limit : {std::max(at_once, schedule.rows), most}) {
    const int32_t chunk = shortest_chunk(schedule.context, schedule.rows, limit);
    const int64_t waves = ceil_div(pieces_of(schedule.context, schedule.rows, chunk), at_once);
    const int64_t cost = waves * (chunk + kPieceOverhead);
    if (cost < best) best = cost, schedule.chunk_tokens = chunk;
  }

  schedule.part.assign(bucket + 1, 0);
  schedule.piece_row.assign(most, 0);
  schedule.piece_chunk.assign(most, 0);
  schedule.piece_valid.assign(most, 0);
  int32_t piece = 0;
  for (int32_t row = 0; row < bucket; row++) {
    schedule.part[row] = piece;
    const int32_t chunks = ceil_div(schedule.context[row], schedule.chunk_tokens);
    for (int32_t chunk = 0; chunk < chunks; chunk++, piece++) {
      schedule.piece_row[piece] = row;
      schedule.piece_chunk[piece] = chunk;
      schedule.piece_valid[piece] = 1;
    }
  }
  schedule.part[bucket] = piece;
}

void schedule_prefill(const DenseShape& shape, int32_t multiprocessors, int32_t tile_tokens,
                      const DenseRow* rows, int32_t count, PrefillSchedule& schedule) {
  struct Work {
    int32_t row, tile, head;
  };
  std::vector<std::vector<Work>> lists(multiprocessors);
  using Load = std::pair<int64_t, int32_t>;  // cost so far, multiprocessor
  std::priority_queue<Load, std::vector<Load>, std::greater<Load>> loads;
  for (int32_t i = 0; i < multiprocessors; i++) loads.push({0, i});
  const std::vector<int32_t> order = longest_first(rows, count);
  for (int32_t head = 0; head < shape.query_heads; head++) {
    for (const int32_t i : order) {
      const DenseRow& row = rows[i];
      for (int32_t tile = ceil_div(row.tokens, tile_tokens) - 1; tile >= 0; tile--) {
        const int32_t seen =
            row.context - row.tokens + std::min(row.tokens, (tile + 1) * tile_tokens);
        auto [cost, multiprocessor] = loads.top();
        loads.pop();
        loads.push({cost + seen + 2 * tile_tokens, multiprocessor});
        lists[multiprocessor].push_back({i, tile, head});
      }
    }
  }
  schedule = {};
  schedule.work_start.push_back(0);
  for (const std::vector<Work>& list : lists) {
    for (const Work& work : list) {
      const DenseRow& row = rows[work.row];
      schedule.tile.push_back(work.tile);
      schedule.head.push_back(work.head);
      schedule.first.push_back(row.first);
      schedule.tokens.push_back(row.tokens);
      schedule.context.push_back(row.context);
      schedule.table.push_back(row.seat * shape.table_stride);
      schedule.row.push_back(work.row);
    }
    schedule.work_start.push_back(static_cast<int32_t>(schedule.tile.size()));
  }
}

void schedule_tiles(const DenseShape& shape, int32_t tile_rows, const DenseRow* rows, int32_t count,
                    TileSchedule& schedule) {
  const int32_t group = shape.query_heads / shape.kv_heads;
  schedule = {};
  for (const int32_t i : longest_first(rows, count)) {
    const DenseRow& row = rows[i];
    for (int32_t tile = ceil_div(int64_t{row.tokens} * group, tile_rows) - 1; tile >= 0; tile--) {
      schedule.row.push_back(static_cast<int32_t>(schedule.first.size()));
      schedule.tile.push_back(tile);
    }
    schedule.first.push_back(row.first);
    schedule.tokens.push_back(row.tokens);
    schedule.context.push_back(row.context);
    schedule.table.push_back(row.seat * shape.table_stride);
  }
  schedule.table.push_back(shape.seats * shape.table_stride);
}

}  // namespace spotlight::gpu
