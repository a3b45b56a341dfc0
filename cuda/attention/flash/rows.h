// Online-softmax attention of one query token (the group of query heads over one KV head) over a
// list of cached rows: a block, a selection gathered by index, or block summaries with a bias. One
// kernel serves all three, since they differ in the list only. Logits are in units of log2
// throughout: q comes scaled by log2(e)/sqrt(head_dim), biases by log2(e).
#pragma once

#include <cstdint>

namespace spotlight {

inline constexpr int kRowsChunk = 64;
inline constexpr int kMostGroup = 64;  // query heads a KV head

struct RowsOp {
  const float* q;      // [group, dim], scaled
  int32_t group, dim;  // dim is a multiple of 16
  const uint16_t* k;   // binary16; row r starts at r * dim
  const uint16_t* v;
  const uint32_t* rows;  // [count] row indices
  const float* bias;     // [count] added to the logits, or null
  int32_t count;         // 1..kRowsChunk
  float* max;            // [group] running state, in and out
  float* sum;            // [group]
  float* acc;            // [group, dim]
  float* scratch;        // rows_scratch(group) floats
};

constexpr int32_t rows_scratch(int32_t group) { return kRowsChunk * group + 4 * 16 * 16; }

namespace portable {
void attend_rows(const RowsOp& op);
}
namespace avx2 {
void attend_rows(const RowsOp& op);
}
namespace avx512 {
void attend_rows(const RowsOp& op);
}

}  // namespace spotlight
