// How a step's dense rows are divided over a GPU, worked out on the host once a step and served to
// every layer alike. Rows of one token (decode) are split along their keys, so that few long
// contexts fill the machine; rows of several tokens (prefill) are tiles of queries, longest first.
// Pure functions over plain arrays, in the form in which FlashInfer's kernels read their work.
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
  int32_t max_rows = 0;                 // most rows of one step
  int32_t max_tokens = 0;               // most tokens of one step
  int32_t seats = 0, table_stride = 0;  // of the block tables [seats, table_stride]
  bool hopper_prefill = true;           // false: prefill by FlashAttention 2 on Hopper, too
};

// Decode rows, padded to a bucket, and their pieces: piece i is row piece_row[i] against its keys
// [piece_chunk[i] * chunk_tokens, ...). Pieces of a row stand together.
struct DecodeSchedule {
  int32_t rows = 0;                  // real ones
  std::vector<int32_t> token;        // [bucket] index into q and out, -1: padding
  std::vector<int32_t> context;      // [bucket]
  std::vector<int32_t> table;        // [bucket + 1] the row's first entry of the block tables
  std::vector<int32_t> part;         // [bucket + 1] the row's first piece
  std::vector<int32_t> piece_row;    // [most_pieces]
  std::vector<int32_t> piece_chunk;  // [most_pieces]
  std::vector<uint8_t> piece_valid;  // [most_pieces]
  int32_t chunk_tokens = 0;          // a multiple of 64
};

// Tiles of queries of one query head dealt to multiprocessors: work of multiprocessor i is
// [work_start[i], work_start[i + 1]).
struct PrefillSchedule {
  std::vector<int32_t> work_start;                                      // [multiprocessors + 1]
  std::vector<int32_t> tile, head, first, tokens, context, table, row;  // [work]
};

// Tiles of a KV head's whole group, (token, head of the group) packed, dealt by the hardware.
struct TileSchedule {
  std::vector<int32_t> row, tile;               // [tiles]
  std::vector<int32_t> first, tokens, context;  // [rows]
  std::vector<int32_t> table;                   // [rows + 1]
};

// What a graph of `bucket` rows launches.
int32_t most_pieces(const DenseShape& shape, int32_t multiprocessors, int32_t bucket);

// The rows of one token among `rows`; bucket is at least their number.
void schedule_decode(const DenseShape& shape, int32_t multiprocessors, const DenseRow* rows,
                     int32_t count, int32_t bucket, DecodeSchedule& schedule);

// The rows of several tokens among `rows`, in tiles of tile_tokens queries of one head.
void schedule_prefill(const DenseShape& shape, int32_t multiprocessors, int32_t tile_tokens,
                      const DenseRow* rows, int32_t count, PrefillSchedule& schedule);

// The same rows in tiles of tile_rows packed queries.
void schedule_tiles(const DenseShape& shape, int32_t tile_rows, const DenseRow* rows, int32_t count,
                    TileSchedule& schedule);

}  // namespace spotlight::gpu
