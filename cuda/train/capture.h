// Queries and keys of one text in every layer that trains, as the frozen model makes them: a dense
// prefill in chunks whose attend is watched. Keys of all tokens are kept, queries of the rows
// wanted alone: for a text of 8,192 tokens some 190 MB of a 135M model.
#pragma once

#include <atomic>
#include <memory>
#include <vector>

#include "device/device.h"
#include "model/transformer.h"
#include "train/truth.h"

namespace spotlight::train {

class Capture final : private AttendTap {
 public:
  // layers: ascending. Throws as the loader and the CPU device do.
  Capture(const WeightFile& file, const std::vector<int32_t>& layers, int32_t threads,
          int32_t most_tokens);

  // False: `cancelled` became true on the way. positions: of the queries to keep.
  bool run(const std::vector<int32_t>& tokens, const std::vector<int32_t>& positions,
           const std::atomic<bool>& cancelled);
  const std::string& device_name() const { return device_->name(); }
  // Of layers[index], until the next run.
  LayerInput input(size_t index) const;

 private:
  void attending(const LayerIo& io, int32_t tokens, int32_t ith, int32_t nth) override;

  ModelConfig config_;
  std::vector<int32_t> index_;  // [layers of the model] place among those kept, -1: not kept
  std::unique_ptr<Device> device_;
  std::unique_ptr<Transformer> model_;
  std::vector<int32_t> blocks_;
  std::vector<std::vector<float>> q_, k_;
  std::vector<int32_t> positions_;
  int32_t count_ = 0, from_ = 0;
};

}  // namespace spotlight::train
