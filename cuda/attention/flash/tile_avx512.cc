// Blocked causal attention for avx512.
#define SPOTLIGHT_SIMD "attention/simd/avx512.h"
#include "attention/flash/tile_impl.h"

namespace spotlight::avx512 {

void attend_tile(const TileOp& op) { attend_tile_impl(op); }

}  // namespace spotlight::avx512
