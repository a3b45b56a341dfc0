#include "model/transformer.h"

#include <string>

#include "error.h"

namespace spotlight {
namespace {

const WeightView& checked(const WeightFile& file, const std::string& name, int64_t rows,
                          int64_t cols) {
  const WeightView& view = file.get(name);
  if (view.rows != rows || view.cols != cols) {
    throw Error(kModelCorrupt, "tensor " + name + " has shape [" + std::to_string(view.rows) +
                                   ", " + std::to_string(view.cols) + "], the config wants [" +
                                   std::to_string(rows) + ", " + std::to_string(cols) + "]");
  }
  return view;
}

}  // namespace

Transformer::Transformer(const WeightFile& file, Device& device) : config_(file.config()) {
  const int64_t hidden = config_.hidden;
  const auto vector = [&](const std::string& name, int64_t width) {
    return device.load({&checked(file, name, 1, width)});
  };
  const auto matrix = [&](const std::string& name, int64_t rows, int64_t cols) {
    return device.load({&checked(file, name, rows, cols)});
  };
  struct Part {
    const char* name;
    int64_t rows;
  };
  const auto projection = [&](const std::string& prefix, const std::vector<Part>& parts,
                              bool biased) {
    Projection result;
    std::vector<const WeightView*> weights, biases;
    for (const Part& part : parts) {
      weights.push_back(&checked(file, prefix + part.name, part.rows, hidden));
      if (biased) biases.push_back(&checked(file, prefix + part.name + "_bias", 1, part.rows));
      result.widths.push_back(part.rows);
    }
    if (device.stackable(weights)) {
      result.weights.push_back(device.load(weights));
      if (biased) result.biases.push_back(device.load(biases));
    } else {
      for (const WeightView* weight : weights) result.weights.push_back(device.load({weight}));
      for (const WeightView* bias : biases) result.biases.push_back(device.load({bias}));
    }
    result.biases.resize(result.weights.size());
    return result;
  };

  embed_ = matrix("embed", config_.vocab, hidden);
  norm_ = vector("norm", hidden);
  head_ = config_.tied_embeddings ? embed_ : matrix("head", config_.vocab, hidden);
  for (int32_t i = 0; i < config_.layers; i++) {
    const std::string prefix = "layers." + std::to_string(i) + ".";
    Layer layer;
    layer.attn_norm = vector(prefix + "attn_norm", hidden);
    layer.mlp_norm = vector(prefix + "mlp_norm", hidden);
    if (config_.qk_norm) {
      layer.q_norm = vector(prefix + "q_norm", config_.head_dim);
      layer.k_norm = vector(prefix + "k_norm", config_.head_dim);
    }
    layer.qkv = projection(
        prefix,
        {{"q", config_.query_width()}, {"k", config_.kv_width()}, {"v", config_.kv_width()}},
        config_.qkv_bias);
    layer.gate_up =
        projection(prefix, {{"gate", config_.intermediate}, {"up", config_.intermediate}}, false);
    layer.o = matrix(prefix + "o", hidden, config_.query_width());
    layer.down = matrix(prefix + "down", hidden, config_.intermediate);
    layers_.push_back(layer);
  }
}

std::vector<Value> Transformer::project(Recorder& recorder, Value x, const Projection& projection) {
  std::vector<Value> values;
  if (projection.weights.size() == projection.widths.size()) {
    for (size_t i = 0; i < projection.weights.size(); i++)
      values.push_back(recorder.matmul(x, projection.weights[i], projection.biases[i]));
    return values;
  }
  const Value all = recorder.matmul(x, projection.weights[0], projection.biases[0]);
  int64_t from = 0;
  for (const int64_t width : projection.widths) {
    values.push_back(recorder.columns(all, from, width));
    from += width;
  }
  return values;
}

void Transformer::record(Recorder& r) const {
  Value x = r.embed(embed_);
  for (int32_t i = 0; i < config_.layers; i++) {
    const Layer& layer = layers_[i];
    std::vector<Value> qkv = project(r, r.rms_norm(x, layer.attn_norm), layer.qkv);
    if (config_.qk_norm) {
      qkv[0] = r.head_norm(qkv[0], layer.q_norm);
      qkv[1] = r.head_norm(qkv[1], layer.k_norm);
    }
    Value attended = r.attend(i, qkv[0], qkv[1], qkv[2]);
    if (i + 1 == config_.layers) {
      // Behind the last cache write only rows with logits matter: a prompt's chunk skips the rest
      // of this layer.
      if (r.selected() == 0) return;
      attended = r.select(attended);
      x = r.select(x);
    }
    x = r.add(x, r.matmul(attended, layer.o, {}));
    const std::vector<Value> gate_up = project(r, r.rms_norm(x, layer.mlp_norm), layer.gate_up);
    x = r.add(x, r.matmul(r.silu_mul(gate_up[0], gate_up[1]), layer.down, {}));
  }
  r.logits(r.rms_norm(x, norm_), head_);
}

}  // namespace spotlight
