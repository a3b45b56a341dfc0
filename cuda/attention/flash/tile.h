// Blocked causal attention of many query tokens of one KV head's group over paged K and V: prompts,
// and whatever attends densely with more than a few tokens. A block of K is transposed and
// converted once for the whole tile of query rows.
#pragma once

#include <cstdint>

namespace spotlight {

struct TileOp {
  const float* q;              // query head 0 of the group, first token
  int64_t q_stride;            // floats a token; heads are dim apart
  int32_t tokens, group, dim;  // dim is a multiple of 16
  int32_t position;            // absolute position of the first token
  const uint16_t* k;           // this layer and head in block 0 of the arena
  const uint16_t* v;
  int64_t block_stride;        // elements from a block to the next
  const int32_t* block_table;  // entry p / 64 holds position p
  float* out;                  // query head 0 of the group, first token
  int64_t out_stride;
  float* scratch;  // tile_scratch(tokens * group, dim) floats, 64-byte aligned
};

// Rows are padded to a multiple of the register tile, which has at most 6.
constexpr int64_t tile_scratch(int32_t rows, int32_t dim) {
  const int64_t padded = rows + 5;
  return padded * (2 * dim + 2) + 2 * 64 * dim + 6 * 64 + 64;
}

namespace portable {
void attend_tile(const TileOp& op);
}
namespace avx2 {
void attend_tile(const TileOp& op);
}
namespace avx512 {
void attend_tile(const TileOp& op);
}

}  // namespace spotlight
