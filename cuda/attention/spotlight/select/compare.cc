// Threshold masks on any CPU.
#include "attention/spotlight/select/compare.h"

namespace spotlight::portable {

void compare_block(const CompareOp& op) {
  uint64_t above = 0, equal = 0;
  for (int i = 0; i < 64; i++) {
    above |= static_cast<uint64_t>(op.scores[i] > op.threshold) << i;
    equal |= static_cast<uint64_t>(op.scores[i] == op.threshold) << i;
  }
  *op.above = above;
  *op.equal = equal;
}

}  // namespace spotlight::portable
