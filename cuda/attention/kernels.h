// The kernels of one instruction set as a table, and the table in force. The rest of attention/ is
// ordinary code over it.
#pragma once

#include "attention/dense/store/store.h"
#include "attention/exact/logits.h"
#include "attention/flash/rows.h"
#include "attention/flash/tile.h"
#include "attention/spotlight/encode/project.h"
#include "attention/spotlight/score/score.h"
#include "attention/spotlight/select/compare.h"
#include "attention/spotlight/tail/summary.h"

namespace spotlight {

struct Kernels {
  const char* name;
  void (*store_rows)(const StoreOp&);
  void (*summarise)(const SummaryOp&);
  void (*attend_rows)(const RowsOp&);
  void (*attend_tile)(const TileOp&);
  void (*score_block)(const ScoreOp&);
  void (*compare_block)(const CompareOp&);
  void (*exact_logits)(const LogitsOp&);
  void (*softmax_mass)(const MassOp&);
  CodeKernels code;
};

// The best this CPU has until select_isa() chooses another.
const Kernels& kernels();

}  // namespace spotlight
