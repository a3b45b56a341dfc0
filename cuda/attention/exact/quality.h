// How good a selection was: what it has in common with the exact top-k of as many tokens, and how
// much of full attention's softmax mass it keeps. Measured beside the step, after a layer has
// attended, on the positions its trace reports; costs a read of all keys, so rows ask for it.
#pragma once

#include "attention/backend.h"

namespace spotlight {

// This thread's share of what the rows ask for in one layer. Traces of the layer must be complete
// and visible: a barrier stands before.
void measure_quality(const AttentionContext& context, const LayerIo& io, const RowView* rows,
                     int32_t row_count, const Team& team);

}  // namespace spotlight
