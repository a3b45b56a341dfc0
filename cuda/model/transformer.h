// The forward pass, once for every architecture served (Llama, Mistral, Qwen2, Qwen3): they differ
// in biases and head norms only. Q, K, V and gate, up are stacked into one matrix each where their
// types agree: fewer ops a step, the same numbers.
#pragma once

#include <vector>

#include "device/device.h"
#include "model/config.h"
#include "model/weights.h"

namespace spotlight {

class Transformer final : public Program {
 public:
  // Takes every weight into the device. Throws MODEL_CORRUPT naming a tensor that is absent or of
  // the wrong shape.
  Transformer(const WeightFile& file, Device& device);
  void record(Recorder& recorder) const override;

 private:
  // Matrices that share an input: one stacked weight, or one each.
  struct Projection {
    std::vector<Weight> weights, biases;
    std::vector<int64_t> widths;
  };
  struct Layer {
    Weight attn_norm, mlp_norm, q_norm, k_norm, o, down;
    Projection qkv, gate_up;
  };
  static std::vector<Value> project(Recorder& recorder, Value x, const Projection& projection);

  ModelConfig config_;
  Weight embed_, norm_, head_;
  std::vector<Layer> layers_;
};

}  // namespace spotlight
