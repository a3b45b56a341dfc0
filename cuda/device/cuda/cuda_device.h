// The CUDA device: weights and activations in one 16-bit type, one stream for the steps, two steps
// in flight. Decode steps run as graphs, captured the second time a kind of step comes (the first
// loads kernels and asks cuBLASLt which to take); all others are launched op by op, by the same
// code. Draws stay on the device, so a step is launched before the one in front has ended.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "device/cuda/attention.h"
#include "device/cuda/block_tables.h"
#include "device/cuda/cache_pool.h"
#include "device/cuda/logits.h"
#include "device/cuda/matmul.h"
#include "device/cuda/step_graphs.h"
#include "device/cuda/step_image.h"
#include "device/cuda/step_shape.h"
#include "device/cuda/stream.h"
#include "device/cuda/tape.h"
#include "device/cuda/weights.h"
#include "device/device.h"

namespace spotlight {

template <typename T>
class CudaDevice final : public Device {
 public:
  // graphs false: decode steps are launched op by op, too.
  CudaDevice(const DeviceOptions& options, bool graphs);
  ~CudaDevice() override;

  const std::string& name() const override { return name_; }
  const std::string& isa() const override { return isa_; }
  int32_t threads() const override { return options_.threads; }
  Weight load(const std::vector<const WeightView*>& views) override { return weights_.load(views); }
  bool stackable(const std::vector<const WeightView*>& views) const override;
  int32_t open_pool(int32_t blocks) override;
  int32_t depth() const override { return kDepth; }
  std::vector<int32_t> decode_sizes() const override { return padded_sizes(most_rows_); }
  void launch(const Program& program, const StepInput& step) override;
  bool finished() override;
  void finish() override;
  void idle() override {}  // no thread of its own polls
  std::unique_ptr<Encoder> make_encoder(const Artifact& artifact) const override;
  void copy_block(int32_t from, int32_t to) override;
  void set_encoder(int32_t plane, const Encoder* encoder) override;
  void rehash(int32_t plane, const int32_t* blocks, const int32_t* filled, int32_t count) override;
  void fill(const int32_t* blocks, int32_t count, uint64_t seed) override;

  // For what looks into a step: called while a layer is launched, behind its attention; q has its
  // RoPE, keys and values lie in the pool. Steps of prompts alone: a captured step would not call
  // it again.
  using Watch = std::function<void(int32_t layer, gpu::Rows<T> q, cudaStream_t stream)>;
  void watch(Watch watch) { watch_ = std::move(watch); }
  const CachePool& pool() const { return *pool_; }
  cudaStream_t stream() const { return stream_.get(); }

  // Graphs captured so far. For tests.
  size_t graphs() const { return graphs_.size(); }

 private:
  static constexpr int32_t kDepth = 2;
  const Tape& tape(const Program& program, Selection selection);
  void describe(const StepInput& step, bool decode);
  void update_tables(const StepInput& step);
  void run(const Tape& tape, bool captured);
  void run_logits(const TapeOp& op, const Tape& tape, bool captured);
  gpu::Rows<T> rows(const Tape& tape, int32_t value) const;
  const T* weight(Weight weight) const { return reinterpret_cast<const T*>(weights_.at(weight)); }
  void multiply(gpu::Rows<T> x, Weight weight, Weight bias, int32_t count, gpu::Rows<T> out);
  void inject_fault();

  DeviceOptions options_;
  bool with_graphs_;
  std::string name_, isa_;
  Watch watch_;
  int32_t multiprocessors_ = 0, capability_ = 0;
  int64_t fault_after_ = -1;  // steps; -1: never

  CudaStream stream_, background_;
  CudaWeights weights_;
  std::unique_ptr<Matmul> matmul_;
  // Largest sizes, padding included: tokens of a step, rows of a decode step.
  int32_t most_tokens_, most_rows_;

  // From open_pool on.
  std::unique_ptr<CudaAttention<T>> attention_;
  std::unique_ptr<CudaLogits<T>> logits_;
  std::unique_ptr<StepImage> image_;
  DeviceBuffer<T> arena_;
  std::unique_ptr<CachePool> pool_;
  BlockTables tables_;
  struct TableImage {
    PinnedBuffer<gpu::TableRun> runs;
    PinnedBuffer<int32_t> entries;
  };
  TableImage table_images_[kDepth];
  DeviceBuffer<int32_t> listed_;  // blocks and their fill, for rehash

  const Program* program_ = nullptr;  // of the tapes
  std::unique_ptr<Tape> tapes_[3];
  StepGraphs graphs_;
  uint32_t generation_ = 0;  // of the retrieval memory the graphs know

  // Of the step in hand.
  int32_t count_ = 0, selected_ = 0;  // padded
  int32_t wanted_ = 0;                // tasks
  const int32_t *ids_ = nullptr, *feeds_ = nullptr, *index_ = nullptr;

  CudaEvent done_[kDepth];
  int64_t launched_ = 0, finished_ = 0;
};

}  // namespace spotlight
