// What both kinds of device report of an attention step besides its output, from the rows' policies
// alone: the counters, and which rows that attended densely count as having selected everything.
#pragma once

#include "attention/backend.h"
#include "attention/plan.h"

namespace spotlight {

// What the counts depend on of a model.
struct AttentionShape {
  int32_t layers = 0, kv_heads = 0;
};

// Adds one layer of one step to context.counters, when there are any.
void count_rows(const AttentionContext& context, const AttentionShape& shape, int32_t layer,
                const RowView* rows, int32_t row_count, const Plan& plan);

// Traces of the rows whose last token attended densely: a retrieving row whose budget covers its
// context selects everything; dense layers and the crossover select nothing.
void trace_dense(const AttentionContext& context, const AttentionShape& shape, int32_t layer,
                 const Plan& plan);

}  // namespace spotlight
