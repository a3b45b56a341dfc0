// The loss of one layer, its gradient and its update on a GPU: layer_trainer.h's passes as products
// and a few kernels. linear-asym alone: one key code a KV head, the group's query codes summed.
#pragma once

#include <vector>

#include "device/cuda/runtime/device_memory.h"
#include "train/adamw.h"
#include "train/gpu/kernels.h"
#include "train/layout.h"

namespace spotlight::train {

class CudaLayerTrainer {
 public:
  // Takes all the memory it will need. Throws MODEL_UNSUPPORTED for another encoder, OUT_OF_MEMORY.
  CudaLayerTrainer(const Recipe& recipe, const ModelConfig& config, cudaStream_t stream);

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
  int32_t chunks() const;
  // parts [outer, chunks, size] of a product whose sum over k is long, added up into out [outer,
  // size].
  void long_product(kernels::Product product, int64_t size, float* out);

  Recipe recipe_;
  Layout layout_;
  cudaStream_t stream_;
  int32_t tokens_ = 0;
  const float *k_ = nullptr, *q_ = nullptr;
  kernels::Shape shape_;
  kernels::Pairs pairs_;
  DeviceBuffer<float> logits_, mass_, scores_;        // [query_heads | heads | heads, rows, stride]
  DeviceBuffer<float> key_codes_, key_gradient_;      // [heads, tokens, bits]
  DeviceBuffer<float> query_codes_, query_gradient_;  // [query_heads, rows, bits]
  DeviceBuffer<float> sums_, sums_gradient_;          // [heads, rows, bits]
  DeviceBuffer<float> parts_, gradient_, weights_of_pairs_;
  DeviceBuffer<int32_t> found_, nearby_, tokens_of_pairs_;
  DeviceBuffer<double> losses_, loss_weights_, result_;
};

}  // namespace spotlight::train
