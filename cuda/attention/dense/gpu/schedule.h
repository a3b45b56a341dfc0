// How a step's dense rows are divided over a GPU, worked out on the host once a step and served to
// every layer alike. Rows of one token (decode) are split along their keys, so that few long
// contexts fill the machine; rows of several tokens (prefill) are tiles of queries dealt to the
// multiprocessors, longest first. Pure functions over plain arrays, in the form in which
// FlashInfer's kernels read their work.
#pragma once

#include <cstdint>
#include <vector>

namespace spotlight::gpu {

// Consecutive tokens of one sequence that attend to all their keys.
struct DenseRow {
  int32_t first = 0;    // index of the first into the step's packed tokens (q and out)
  int32_t tokens = 0;   // > 0
  int32_t context = 0;  // what the last of them sees, itself included; >= tokens
  int32_t seat = 0;     // row of the block tables
};

struct DenseShape {
  int32_t query_heads = 0, kv_heads = 0, head_dim = 0;
  int32_t max_rows = 0;    // most rows of one step
  int32_t max_tokens = 0;  // most tokens of one step
  int32_t table_stride = 0;
  int32_t seats = 0;
};

// One piece of work of decode: row `row` (of those of one token) against the keys
// [chunk * chunk_tokens, ...).
struct DecodeSchedule {
  int32_t rows = 0;                  // real ones; those up to the bucket are padding
  std::vector<int32_t> token;        // [bucket] index of q and out, -1: padding
  std::vector<int32_t> context;      // [bucket]
  std::vector<int32_t> table;        // [bucket + 1] first entry of the row's block table
  std::vector<int32_t> part;         // [bucket + 1] first piece of the row
  std::vector<int32_t> piece_row;    // [pieces of the bucket]
  std::vector<int32_t> piece_chunk;  // [pieces of the bucket]
  std::vector<uint8_t> piece_valid;  // [pieces of the bucket]
  int32_t chunk_tokens = 0;          // a multiple of 64
};

// Tiles of queries of prefill, one list a multiprocessor: work of multiprocessor i is
// [work_start[i], work_start[i + 1]).
struct PrefillSchedule {
  std::vector<int32_t> work_start;                                      // [multiprocessors + 1]
  std::vector<int32_t> tile, head, first, tokens, context, table, row;  // [work]
};

// As many pieces as can run at once, or twice that: what a graph of `bucket` rows launches.
int32_t decode_pieces(const DenseShape& shape, int32_t multiprocessors, int32_t bucket);

// Rows of one token among `rows`, padded to `bucket` (>= their number).
void schedule_decode(const DenseShape& shape, int32_t multiprocessors, const DenseRow* rows,
                     int32_t count, int32_t bucket, DecodeSchedule& schedule);

// Rows of several tokens among `rows`, in tiles of tile_tokens queries of one query head.
void schedule_prefill(const DenseShape& shape, int32_t multiprocessors, int32_t tile_tokens,
                      const DenseRow* rows, int32_t count, PrefillSchedule& schedule);

}  // namespace spotlight::gpu
