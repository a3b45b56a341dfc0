// How every layer of a step attends on a GPU: plan_rows' dense and sparse segments, in the form the
// kernels take. A pure function of the rows, of the policies and of which planes have codes, by the
// same rules as on the CPU, so that both devices select and count alike. Knows no CUDA call.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "attention/account.h"
#include "attention/gpu/view.h"
#include "attention/plan.h"

namespace spotlight {

struct LayerPlan {
  // What the Spotlight kernels serve; in a decode step whose layer has any sparse row all of them,
  // token by token, padding included.
  std::vector<gpu::Query> queries;
  int32_t dense = -1;  // index into StepPlan::dense, -1: nothing attends densely
};

struct StepPlan {
  std::vector<LayerPlan> layers;
  // Segments served by dense attention; layers with the same ones share an entry.
  std::vector<std::vector<Segment>> dense;
  // One character a layer, 's' with Spotlight kernels, 'd' without: decode steps of one pattern and
  // size run the same graph.
  std::string pattern() const;
};

// decode_rows: 0, or the padded size of a step whose rows are one token each. Adds to the counters.
// Traces of rows that attend densely are written.
StepPlan plan_step(const AttentionContext& context, const AttentionShape& shape,
                   const RowView* rows, int32_t row_count, bool sparse_backend,
                   int32_t decode_rows);

}  // namespace spotlight
