// The summary of a full block: the mean of its 64 keys (or values) as stored, summed in position
// order so that every instruction set gives the same bits.
#pragma once

#include <cstdint>

namespace spotlight {

struct SummaryOp {
  const uint16_t* rows;  // [64, dim] binary16
  int32_t dim;           // a multiple of 16
  uint16_t* mean;        // [dim]
};

namespace portable {
void summarise(const SummaryOp& op);
}
namespace avx2 {
void summarise(const SummaryOp& op);
}
namespace avx512 {
void summarise(const SummaryOp& op);
}

}  // namespace spotlight
