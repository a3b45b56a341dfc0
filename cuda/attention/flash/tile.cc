// Blocked causal attention for portable.
#define SPOTLIGHT_SIMD "attention/simd/portable.h"
#include "attention/flash/tile_impl.h"

namespace spotlight::portable {

void attend_tile(const TileOp& op) { attend_tile_impl(op); }

}  // namespace spotlight::portable
