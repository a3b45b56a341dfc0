// Collects row indices for one query token and hands them to the kernel a chunk at a time.
#pragma once

#include "attention/flash/rows.h"

namespace spotlight {

class RowList {
 public:
  // q [group, dim] scaled; state of state_floats(group, dim); scratch of rows_scratch(group)
  // floats. k and v: binary16 rows of dim.
  RowList(const float* q, int32_t group, int32_t dim, const uint16_t* k, const uint16_t* v,
          float* state, float* scratch);

  void add(uint32_t row) {
    rows_[count_++] = row;
    if (count_ == kRowsChunk) flush();
  }
  // For a list whose rows all carry a bias, in log2 units.
  void add(uint32_t row, float bias) {
    bias_[count_] = bias;
    op_.bias = bias_;
    add(row);
  }
  // The tokens of block that `mask` names; block_row is the row of its first token.
  void add_block(uint32_t block_row, uint64_t mask);
  void flush();

 private:
  RowsOp op_;
  int32_t count_ = 0;
  uint32_t rows_[kRowsChunk];
  float bias_[kRowsChunk];
};

// q * log2(e) / sqrt(dim), the unit of the kernels' logits.
void scale_query(const float* q, int32_t group, int32_t dim, float* scaled);

}  // namespace spotlight
