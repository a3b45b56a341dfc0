// How good a selection was: what it has in common with the exact top-k of as many tokens, and how
// much of full attention's softmax mass it keeps. Measured beside the step, after a layer has
// attended, on the positions its trace reports; costs a read of all keys, so rows ask for it.
#pragma once

#include <cstdint>
#include <vector>

#include "attention/backend.h"

namespace spotlight {

// mass: [seen] of full attention, summed over the `group` query heads of a KV head; selected:
// ascending positions. Selecting nothing (a dense layer) or everything gives 1s.
Quality compare_with_mass(const float* mass, int32_t seen, int32_t group,
                          const std::vector<int32_t>& selected);

// This thread's share of what the rows ask for in one layer. Traces of the layer must be complete
// and visible: a barrier stands before.
void measure_quality(const AttentionContext& context, const LayerIo& io, const RowView* rows,
                     int32_t row_count, const Team& team);

}  // namespace spotlight
