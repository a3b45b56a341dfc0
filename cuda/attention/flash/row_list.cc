#include "attention/flash/row_list.h"

#include <cmath>

#include "attention/flash/state.h"
#include "attention/kernels.h"

namespace spotlight {

RowList::RowList(const float* q, int32_t group, int32_t dim, const uint16_t* k, const uint16_t* v,
                 float* state, float* scratch) {
  const SoftmaxState view(state, group);
  op_ = {q, group, dim, k, v, rows_, nullptr, 0, view.max, view.sum, view.acc, scratch};
}

void RowList::add_block(uint32_t block_row, uint64_t mask) {
  for (; mask; mask &= mask - 1) add(block_row + static_cast<uint32_t>(__builtin_ctzll(mask)));
}

void RowList::flush() {
  if (count_ == 0) return;
  op_.count = count_;
  kernels().attend_rows(op_);
  count_ = 0;
}

void scale_query(const float* q, int32_t group, int32_t dim, float* scaled) {
  const float scale = 1.44269504088896341f / std::sqrt(static_cast<float>(dim));
  for (int32_t i = 0; i < group * dim; i++) scaled[i] = q[i] * scale;
}

}  // namespace spotlight
