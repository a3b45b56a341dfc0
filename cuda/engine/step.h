// Packs a batch's rows into what a device runs, and reads the answers out again: pure bookkeeping
// over the sequences' state, done on the engine thread. Memory is reused from step to step.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "device/device.h"
#include "engine/batch.h"
#include "engine/sequence.h"

namespace spotlight {

class StepPack {
 public:
  // The sequences' tables already hold the rows' appended blocks. trace_lists: layers * kv_heads,
  // per traced row.
  const StepInput& pack(const Batch& batch, const std::vector<std::shared_ptr<Sequence>>& sequences,
                        int32_t trace_lists);
  // After the run: the result of each row; drawn tokens enter their sequences.
  std::vector<RowResult> results(const Batch& batch,
                                 const std::vector<std::shared_ptr<Sequence>>& sequences);

 private:
  void select(const BatchRow& row, const Sequence& sequence, int32_t first);

  StepInput input_;
  std::vector<int32_t> tokens_, positions_, feeds_, selected_;
  std::vector<RowView> rows_;
  std::vector<LogitsTask> tasks_;
  std::vector<std::vector<std::vector<int32_t>>> traces_;  // [rows][layers * kv_heads]
};

}  // namespace spotlight
