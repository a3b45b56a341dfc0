// Attention of a step on a GPU: which kernels serve which rows of which layer. Prompt tokens, dense
// layers and short contexts take dense attention; generated tokens the Spotlight kernels. In a
// decode step whose layer has both, the dense rows ride along in the Spotlight kernels: one launch
// for all.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "attention/dense/gpu/dense_gpu.h"
#include "attention/gpu/view.h"
#include "device/cuda/cache_pool.h"
#include "device/cuda/encoder.h"
#include "device/cuda/ops.h"
#include "device/cuda/retrieval_memory.h"
#include "device/cuda/step_image.h"
#include "device/cuda/step_plan.h"
#include "device/device.h"

namespace spotlight {

struct AttentionLimits {
  int32_t rows = 0;    // most rows of a step, padding included
  int32_t tokens = 0;  // most tokens of a step, padding included
  int32_t seats = 0, table_stride = 0;
  int32_t blocks = 0;  // of the pool, about
  int32_t multiprocessors = 0, capability = 0;
};

template <typename T>
class CudaAttention {
 public:
  // Throws MODEL_UNSUPPORTED for heads the kernels do not take, OUT_OF_MEMORY.
  CudaAttention(const DeviceOptions& options, const AttentionLimits& limits);

  void open(const CachePool& pool) { pool_ = &pool; }
  // Null: the dense backend, which keeps no codes.
  const std::shared_ptr<RetrievalMemory>& retrieval() const { return retrieval_; }

  // In stream order. Null: the plane carries no artifact.
  void set_encoder(int32_t plane, const CudaEncoder* encoder, cudaStream_t stream);
  int32_t* tables() const { return tables_.data(); }
  // [kPlanes] of a layer, on the device.
  const gpu::LayerEncoder* encoders(int32_t layer) const {
    return table_.data() + static_cast<size_t>(layer) * kPlanes;
  }

  // Host side of a step: its plan, and its parts of the image. positions and seats: of `tokens`
  // packed tokens, on the device. decode: every row has one token.
  void prepare(const StepInput& step, int32_t tokens, bool decode, const int32_t* positions,
               const int32_t* seats, StepImage& image);
  // What cannot be captured: the dense rows' plans. After the image is sent.
  void plan_dense(cudaStream_t stream);
  // Whether launches depend on the number of tokens and on pattern() alone.
  bool capturable() const { return capturable_; }
  const std::string& pattern() const { return pattern_; }
  // Of the retrieval memory: a graph serves one.
  uint32_t generation() const { return memory_.generation; }

  // On the stream: once a step, then each layer in order. Rows of q are turned in place.
  void begin(cudaStream_t stream);
  void layer(int32_t layer, gpu::Rows<T> q, gpu::Rows<T> k, gpu::Rows<T> v, gpu::Rows<T> out,
             cudaStream_t stream);
  // After the step's end: traces and qualities of rows that retrieved. Steps are answered in the
  // order of prepare().
  void answer();

 private:
  // Queries that one launch has room for.
  struct Slice {
    int32_t first = 0;  // of the layer's queries
    gpu::Queries queries;
    const int32_t* block_start = nullptr;  // as in queries, on the host
    const gpu::QueryShare* shares = nullptr;
  };
  struct Layer {
    gpu::Queries queries;  // all of them
    std::vector<Slice> slices;
    int32_t dense = -1;
  };
  // A row's last query in one layer, whose selection is wanted.
  struct Traced {
    std::vector<int32_t>* lists;  // [kv_heads]
    const Slice* slice;           // whose launch selects it
    size_t from, at, blocks;      // [virtual_heads, blocks] of the device's trace, and of `masks`
  };
  // A KV head of a row's last query whose selection is measured against full attention.
  struct Probed {
    QualityProbe* probe;
    const std::vector<int32_t>* selected;
    int32_t layer, head, token, seat, context;
    size_t at;  // of the masses, on both sides
  };
  struct Step {
    std::vector<Traced> traced;
    std::vector<Probed> probed;
    PinnedBuffer<uint64_t> masks;
    PinnedBuffer<float> masses;
    int32_t selections = 1;
  };
  gpu::DensePlan& dense_plan(size_t index);
  // before: the layer in front, null for the first.
  void prepare_layer(size_t l, const std::vector<gpu::Query>& queries,
                     const std::vector<gpu::Query>* before, StepImage& image);
  void find_traces(const StepInput& step, const StepPlan& plan);
  void probe(const RowView& row, int32_t layer, const gpu::Query& query);
  void make_room_for_probes();
  void measure(int32_t layer, gpu::Rows<T> q, cudaStream_t stream);
  void attend(int32_t layer, const Slice& slice, gpu::Rows<T> q, gpu::Rows<T> out,
              cudaStream_t stream);

  ModelConfig config_;
  AttentionShape shape_;
  bool sparse_backend_;
  AttentionLimits limits_;
  AttentionContext context_;
  const CachePool* pool_ = nullptr;
  std::shared_ptr<RetrievalMemory> retrieval_;
  std::vector<std::unique_ptr<gpu::DensePlan>> dense_plans_;
  DeviceBuffer<int32_t> tables_;           // [seats, table_stride]
  DeviceBuffer<gpu::LayerEncoder> table_;  // [layers, kPlanes]
  std::vector<gpu::LayerEncoder> host_table_;
  DeviceBuffer<double> inverse_;  // [head_dim / 2]
  float magnitude_ = 1;
  DeviceBuffer<float> angles_;  // [tokens, head_dim]
  DeviceBuffer<uint64_t> trace_;
  DeviceBuffer<float> masses_, mass_workspace_;

  // Of the step in hand.
  bool decode_ = false, capturable_ = false;
  Step* step_ = nullptr;
  RetrievalMemory::View memory_;
  std::string pattern_;
  gpu::Tokens tokens_;
  std::vector<Layer> layers_;
  std::vector<std::vector<gpu::DenseRow>> dense_rows_;
  Step steps_[2];
  int prepared_ = 0, answered_ = 0;
};

}  // namespace spotlight
