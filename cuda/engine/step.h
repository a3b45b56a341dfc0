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
  // The sequences' tables already hold the rows' appended blocks. layers and kv_heads shape what
  // traces and qualities hold.
  const StepInput& pack(const Batch& batch, const std::vector<std::shared_ptr<Sequence>>& sequences,
                        int32_t layers, int32_t kv_heads);
  // After the run: the result of each row; drawn tokens enter their sequences.
  std::vector<RowResult> results(const Batch& batch,
                                 const std::vector<std::shared_ptr<Sequence>>& sequences);

 private:
  void select(const BatchRow& row, const Sequence& sequence, int32_t first);
  std::vector<LayerQuality> qualities(const QualityProbe& probe) const;

  StepInput input_;
  int32_t kv_heads_ = 1;
  std::vector<int32_t> tokens_, positions_, feeds_, selected_;
  std::vector<RowView> rows_;
  std::vector<LogitsTask> tasks_;
  std::vector<std::vector<std::vector<int32_t>>> traces_;  // [rows][layers * kv_heads]
  std::vector<QualityProbe> probes_;                       // [rows]
};

}  // namespace spotlight
