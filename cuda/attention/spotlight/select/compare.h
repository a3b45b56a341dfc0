// The scores of one block against a threshold, as 64-bit masks: bit i is token i of the block.
#pragma once

#include <cstdint>

namespace spotlight {

struct CompareOp {
  const int16_t* scores;  // [64]
  int16_t threshold;
  uint64_t* above;
  uint64_t* equal;
};

namespace portable {
void compare_block(const CompareOp& op);
}
namespace avx2 {
void compare_block(const CompareOp& op);
}
namespace avx512 {
void compare_block(const CompareOp& op);
}

}  // namespace spotlight
