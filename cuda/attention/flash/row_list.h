// Collects row indices for one query token and hands them to the kernel a chunk at a time.
// A chunk runs only once the next one is collected: a row's key is asked for from memory when it is
// named, and arrives while the chunk before is computed.
#pragma once

#include <cstddef>

#include "attention/flash/rows.h"

namespace spotlight {

class RowList {
 public:
  // q [group, dim] scaled; state of state_floats(group, dim); scratch of rows_scratch(group)
  // floats. k and v: binary16 rows of dim.
  RowList(const float* q, int32_t group, int32_t dim, const uint16_t* k, const uint16_t* v,
          float* state, float* scratch);

  void add(uint32_t row) {
    const uint16_t* key = op_.k + static_cast<size_t>(row) * op_.dim;
    for (int32_t j = 0; j < op_.dim; j += 32) __builtin_prefetch(key + j);
    rows_[filling_][count_++] = row;
    if (count_ == kRowsChunk) turn();
  }
  // For a list whose rows all carry a bias, in log2 units.
  void add(uint32_t row, float bias) {
    bias_[filling_][count_] = bias;
    biased_ = true;
    add(row);
  }
  // The tokens of block that `mask` names; block_row is the row of its first token.
  void add_block(uint32_t block_row, uint64_t mask);
  void flush();

 private:
  // The chunk that waits runs, the one just filled waits.
  void turn();
  void run(int32_t chunk, int32_t count);

  RowsOp op_;
  int32_t count_ = 0, filling_ = 0;
  bool waits_ = false, biased_ = false;  // a full chunk waits in the other half
  uint32_t rows_[2][kRowsChunk];
  float bias_[2][kRowsChunk];
};

// q * log2(e) / sqrt(dim), the unit of the kernels' logits.
void scale_query(const float* q, int32_t group, int32_t dim, float* scaled);

}  // namespace spotlight
