// The loss of one layer, its gradient and its update on a GPU: layer_trainer.h's passes as products
// and a few kernels. Heads take turns in memory: an mlp's those of one KV head, since its scores
// and codes are a query head's own, a group's times as many; fewer at a time in long texts.
#pragma once

#include <memory>

#include "device/cuda/runtime/device_memory.h"
#include "train/adamw.h"
#include "train/gpu/head_code_cuda.h"
#include "train/gpu/kernels.h"
#include "train/layout.h"

namespace spotlight::train {

class CudaLayerTrainer {
 public:
  // Takes all the memory it will need; most_bytes: what scores and codes of the heads worked on at
  // once may take, one head's at least. Throws OUT_OF_MEMORY.
  CudaLayerTrainer(const Recipe& recipe, const ModelConfig& config, cudaStream_t stream,
                   int64_t most_bytes = int64_t{512} << 20);

  // Keys [tokens, kv_heads, head_dim] of a layer, on the device, the caller's until the next
  // take().
  void take(const float* k, int32_t tokens);
  // Pairs of recipe.rows queries: q [rows, query_heads, head_dim], positions ascending, both on the
  // device.
  void draw(const Draws& draws, const float* q, const int32_t* positions);
  // Loss and gradient over the pairs drawn, of weights [layout.layer_size] on the device.
  void differentiate(const float* weights);
  void update(const AdamWStep& step, float* weights, float* first, float* second);

  const Layout& layout() const { return layout_; }
  // [2] on the device: the mean loss, and what gradient() is still to be multiplied by.
  const double* loss() const { return result_.data(); }
  const float* gradient() const { return gradient_.data(); }

 private:
  // Whether keys and queries have one code, a query head's own.
  bool shared() const { return layout_.encoder == CodeKind::kMlp; }
  int32_t first_query() const { return shape_.first * shape_.group; }
  // Of the heads at hand, shape_.heads from shape_.first on.
  kernels::Pairs pairs() const;
  HeadVectors keys() const;
  HeadVectors asked() const;
  void encode(const float* weights);
  void score();
  void spread();
  void add_up(const float* weights);

  Recipe recipe_;
  Layout layout_;
  cudaStream_t stream_;
  std::unique_ptr<CudaHeadCode> code_;
  int32_t tokens_ = 0;
  const float *k_ = nullptr, *q_ = nullptr;
  kernels::Shape shape_;  // of the heads at once
  kernels::Pairs pairs_;  // of all
  // Of the heads at once, queries their query heads.
  DeviceBuffer<float> logits_, mass_, scores_;        // [queries | heads | heads, rows, stride]
  DeviceBuffer<float> key_codes_, key_gradient_;      // [heads, tokens, bits]
  DeviceBuffer<float> query_codes_, query_gradient_;  // [queries, rows, bits]
  DeviceBuffer<float> sums_, sums_gradient_;          // [heads, rows, bits]
  DeviceBuffer<float> parts_, gradient_, weights_of_pairs_;
  DeviceBuffer<int32_t> found_, nearby_, tokens_of_pairs_;
  DeviceBuffer<double> losses_, loss_weights_, result_;
};

}  // namespace spotlight::train
