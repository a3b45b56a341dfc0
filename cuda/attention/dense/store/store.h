// Rounds new keys and values to binary16 in the block pool.
#pragma once

#include <cstdint>

namespace spotlight {

struct StoreOp {
  const float* from;  // [tokens, dim], a token from_stride floats on
  int64_t from_stride;
  int32_t tokens, dim;  // dim is a multiple of 16
  uint16_t* to;         // [tokens, dim], dense
};

namespace portable {
void store_rows(const StoreOp& op);
}
namespace avx2 {
void store_rows(const StoreOp& op);
}
namespace avx512 {
void store_rows(const StoreOp& op);
}

}  // namespace spotlight
