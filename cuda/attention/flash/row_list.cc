#include "attention/flash/row_list.h"

#include <cmath>

#include "attention/flash/state.h"
#include "attention/kernels.h"

namespace spotlight {

RowList::RowList(const float* q, int32_t group, int32_t dim, const uint16_t* k, const uint16_t* v,
                 float* state, float* scratch) {
  const SoftmaxState view(state, group);
  op_ = {q, group, dim, k, v, nullptr, nullptr, 0, view.max, view.sum, view.acc, scratch};
}

void RowList::add_block(uint32_t block_row, uint64_t mask) {
  for (; mask; mask &= mask - 1) add(block_row + static_cast<uint32_t>(__builtin_ctzll(mask)));
}

void RowList::turn() {
  if (waits_) run(1 - filling_, kRowsChunk);
  waits_ = true;
  filling_ = 1 - filling_;
  count_ = 0;
}

void RowList::flush() {
  if (waits_) run(1 - filling_, kRowsChunk);
  if (count_ > 0) run(filling_, count_);
  waits_ = false;
  count_ = 0;
}

void RowList::run(int32_t chunk, int32_t count) {
  op_.rows = rows_[chunk];
  op_.bias = biased_ ? bias_[chunk] : nullptr;
  op_.count = count;
  kernels().attend_rows(op_);
}

void scale_query(const float* q, int32_t group, int32_t dim, float* scaled) {
  const float scale = 1.44269504088896341f / std::sqrt(static_cast<float>(dim));
  for (int32_t i = 0; i < group * dim; i++) scaled[i] = q[i] * scale;
}

}  // namespace spotlight
