// Blocked causal attention for avx2.
#define SPOTLIGHT_SIMD "attention/simd/avx2.h"
#include "attention/flash/tile_impl.h"

namespace spotlight::avx2 {

void attend_tile(const TileOp& op) { attend_tile_impl(op); }

}  // namespace spotlight::avx2
