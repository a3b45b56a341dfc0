// A small random model and its forward pass written out in double, straight from the definition:
// what every device is compared with, and the packing of test steps.
#pragma once

#include <ggml.h>

#include <cmath>
#include <deque>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "device/device.h"
#include "model/transformer.h"
#include "model/weights.h"

namespace spotlight::check {

// What the weights are rounded to, so that a device of 16 bits has the reference's very values.
// kBf16V: V alone is bf16, in another type than Q and K, so that they cannot be stacked.
enum class Rounding { kNone, kBf16V, kBf16, kFp16 };

class RandomWeights final : public WeightFile {
 public:
  RandomWeights(const ModelConfig& config, Rounding rounding) {
    config_ = config;
    const bool bf16_v = rounding == Rounding::kBf16V;
    std::mt19937 random(7);
    const auto add = [&](const std::string& name, int64_t rows, int64_t cols, float scale,
                         float mean, bool bf16 = false) {
      std::normal_distribution<float> normal(mean, scale);
      std::vector<float>& values = memory_.emplace_back(rows * cols);
      for (float& value : values) value = rounded(normal(random), rounding);
      WeightView view;
      view.ggml_type = GGML_TYPE_F32;
      view.rows = rows;
      view.cols = cols;
      view.data = values.data();
      view.bytes = values.size() * sizeof(float);
      if (bf16) {
        std::vector<ggml_bf16_t>& small = small_.emplace_back(values.size());
        ggml_fp32_to_bf16_row(values.data(), small.data(), static_cast<int64_t>(values.size()));
        ggml_bf16_to_fp32_row(small.data(), values.data(), static_cast<int64_t>(values.size()));
        view.ggml_type = GGML_TYPE_BF16;
        view.data = small.data();
        view.bytes /= 2;
      }
      views_[name] = view;
      floats_[name] = values;
    };
    add("embed", config.vocab, config.hidden, 1, 0);
    add("norm", 1, config.hidden, .1f, 1);
    if (!config.tied_embeddings) add("head", config.vocab, config.hidden, .3f, 0);
    const float in = 1 / std::sqrt(static_cast<float>(config.hidden));
    for (int i = 0; i < config.layers; i++) {
      const std::string p = "layers." + std::to_string(i) + ".";
      add(p + "attn_norm", 1, config.hidden, .1f, 1);
      add(p + "mlp_norm", 1, config.hidden, .1f, 1);
      add(p + "q", config.query_width(), config.hidden, 2 * in, 0);
      add(p + "k", config.kv_width(), config.hidden, 2 * in, 0);
      add(p + "v", config.kv_width(), config.hidden, in, 0, bf16_v);
      add(p + "o", config.hidden, config.query_width(), in, 0);
      add(p + "gate", config.intermediate, config.hidden, in, 0);
      add(p + "up", config.intermediate, config.hidden, in, 0);
      add(p + "down", config.hidden, config.intermediate, in, 0);
      if (config.qkv_bias) {
        add(p + "q_bias", 1, config.query_width(), .5f, 0);
        add(p + "k_bias", 1, config.kv_width(), .5f, 0);
        add(p + "v_bias", 1, config.kv_width(), .5f, 0, bf16_v);
      }
      if (config.qk_norm) {
        add(p + "q_norm", 1, config.head_dim, .2f, 1);
        add(p + "k_norm", 1, config.head_dim, .2f, 1);
      }
    }
  }
  const std::vector<float>& floats(const std::string& name) const { return floats_.at(name); }
  bool has_floats(const std::string& name) const { return floats_.count(name) > 0; }

 private:
  static float rounded(float value, Rounding rounding) {
    if (rounding == Rounding::kBf16) return ggml_bf16_to_fp32(ggml_fp32_to_bf16(value));
    if (rounding == Rounding::kFp16) return ggml_fp16_to_fp32(ggml_fp32_to_fp16(value));
    return value;
  }

  std::deque<std::vector<float>> memory_;
  std::deque<std::vector<ggml_bf16_t>> small_;
  std::map<std::string, std::vector<float>> floats_;
};

using Vec = std::vector<double>;

inline Vec linear(const RandomWeights& w, const std::string& name, const Vec& x) {
  const std::vector<float>& m = w.floats(name);
  Vec y(m.size() / x.size());
  for (size_t r = 0; r < y.size(); r++)
    for (size_t c = 0; c < x.size(); c++) y[r] += double{m[r * x.size() + c]} * x[c];
  if (w.has_floats(name + "_bias"))
    for (size_t r = 0; r < y.size(); r++) y[r] += w.floats(name + "_bias")[r];
  return y;
}

inline void normalise(double* x, size_t n, const std::vector<float>& gain, double eps) {
  double sum = 0;
  for (size_t i = 0; i < n; i++) sum += x[i] * x[i];
  const double scale = 1 / std::sqrt(sum / static_cast<double>(n) + eps);
  for (size_t i = 0; i < n; i++) x[i] *= scale * gain[i];
}

inline void turn(Vec& x, int head_dim, int position, double theta) {
  const int half = head_dim / 2;
  for (size_t h = 0; h < x.size(); h += head_dim) {
    for (int i = 0; i < half; i++) {
      const double angle = position * std::pow(theta, -2.0 * i / head_dim);
      const double a = x[h + i], b = x[h + half + i];
      x[h + i] = a * std::cos(angle) - b * std::sin(angle);
      x[h + half + i] = b * std::cos(angle) + a * std::sin(angle);
    }
  }
}

// What the cache keeps of a value.
inline double stored(double value) {
  return ggml_fp16_to_fp32(ggml_fp32_to_fp16(static_cast<float>(value)));
}

// Log-softmax of every position of one sequence, straight from the definition.
inline std::vector<Vec> reference(const RandomWeights& w, const std::vector<int32_t>& tokens) {
  const ModelConfig& c = w.config();
  std::vector<std::vector<Vec>> ks(c.layers), vs(c.layers);
  std::vector<Vec> result;
  for (size_t t = 0; t < tokens.size(); t++) {
    Vec x(c.hidden);
    for (int i = 0; i < c.hidden; i++) x[i] = w.floats("embed")[tokens[t] * c.hidden + i];
    for (int l = 0; l < c.layers; l++) {
      const std::string p = "layers." + std::to_string(l) + ".";
      Vec h = x;
      normalise(h.data(), h.size(), w.floats(p + "attn_norm"), c.rms_norm_eps);
      Vec q = linear(w, p + "q", h), k = linear(w, p + "k", h);
      Vec v = linear(w, p + "v", h);
      if (c.qk_norm) {
        for (size_t i = 0; i < q.size(); i += c.head_dim)
          normalise(&q[i], c.head_dim, w.floats(p + "q_norm"), c.rms_norm_eps);
        for (size_t i = 0; i < k.size(); i += c.head_dim)
          normalise(&k[i], c.head_dim, w.floats(p + "k_norm"), c.rms_norm_eps);
      }
      turn(q, c.head_dim, static_cast<int>(t), c.rope.theta);
      turn(k, c.head_dim, static_cast<int>(t), c.rope.theta);
      for (double& value : k) value = stored(value);
      for (double& value : v) value = stored(value);
      ks[l].push_back(k);
      vs[l].push_back(v);
      Vec attended(c.query_width());
      for (int head = 0; head < c.query_heads; head++) {
        const int from = head / c.group() * c.head_dim;
        Vec p_t(t + 1);
        double sum = 0;
        for (size_t s = 0; s <= t; s++) {
          double dot = 0;
          for (int i = 0; i < c.head_dim; i++) dot += q[head * c.head_dim + i] * ks[l][s][from + i];
          sum += p_t[s] = std::exp(dot / std::sqrt(c.head_dim));
        }
        for (size_t s = 0; s <= t; s++)
          for (int i = 0; i < c.head_dim; i++)
            attended[head * c.head_dim + i] += p_t[s] / sum * vs[l][s][from + i];
      }
      const Vec o = linear(w, p + "o", attended);
      for (int i = 0; i < c.hidden; i++) x[i] += o[i];
      h = x;
      normalise(h.data(), h.size(), w.floats(p + "mlp_norm"), c.rms_norm_eps);
      Vec gate = linear(w, p + "gate", h);
      const Vec up = linear(w, p + "up", h);
      for (size_t i = 0; i < gate.size(); i++) gate[i] = gate[i] / (1 + std::exp(-gate[i])) * up[i];
      const Vec down = linear(w, p + "down", gate);
      for (int i = 0; i < c.hidden; i++) x[i] += down[i];
    }
    normalise(x.data(), x.size(), w.floats("norm"), c.rms_norm_eps);
    Vec logits = linear(w, c.tied_embeddings ? "embed" : "head", x);
    double sum = 0;
    for (const double value : logits) sum += std::exp(value);
    for (double& value : logits) value -= std::log(sum);
    result.push_back(logits);
  }
  return result;
}

inline ModelConfig small(const char* architecture) {
  ModelConfig config;
  config.architecture = architecture;
  config.layers = 3;
  config.hidden = 64;
  config.intermediate = 96;
  config.query_heads = 6;
  config.kv_heads = 2;
  config.head_dim = 64;
  config.vocab = 50;
  config.max_model_len = 512;
  config.tied_embeddings = true;
  return config;
}

struct Row {
  const std::vector<int32_t>* tokens;  // of the whole sequence
  int32_t from, count;
  std::vector<int32_t> table;
  int32_t seat = 0;
};

// Runs one step and returns the log-softmax of every token of every row.
inline std::vector<std::vector<float>> step(Device& device, const Transformer& model,
                                            const std::vector<Row>& rows, bool all, int32_t vocab) {
  std::vector<int32_t> tokens, positions, selected;
  std::vector<RowView> views;
  SamplingParams params;
  params.temperature = 0;
  params.logprobs = vocab;
  std::vector<LogitsTask> tasks;
  const std::vector<LayerPolicy> policies(16);
  for (const Row& row : rows) {
    RowView view;
    view.block_table = row.table.data();
    view.blocks = static_cast<int32_t>(row.table.size());
    view.seat = row.seat;
    view.seated = false;  // the whole table each time
    view.first = static_cast<int32_t>(tokens.size());
    view.tokens = row.count;
    view.position = row.from;
    view.policies = policies.data();
    for (int32_t i = 0; i < row.count; i++) {
      if (all || i + 1 == row.count) {
        selected.push_back(static_cast<int32_t>(tokens.size()));
        LogitsTask& task = tasks.emplace_back();
        task.params = &params;
        task.seat = row.seat;
      }
      tokens.push_back((*row.tokens)[row.from + i]);
      positions.push_back(row.from + i);
    }
    views.push_back(view);
  }
  StepInput input;
  input.tokens = tokens.data();
  input.positions = positions.data();
  input.count = static_cast<int32_t>(tokens.size());
  input.rows = views.data();
  input.row_count = static_cast<int32_t>(views.size());
  input.selected = selected.data();
  input.selected_count = static_cast<int32_t>(selected.size());
  input.tasks = tasks.data();
  device.run(model, input);
  std::vector<std::vector<float>> result;
  for (const LogitsTask& task : tasks) {
    std::vector<float>& row = result.emplace_back(vocab);
    for (int32_t i = 0; i < vocab; i++)
      row[task.logprobs.top_tokens[i]] = task.logprobs.top_logprobs[i];
  }
  return result;
}

inline std::vector<int32_t> random_tokens(size_t count, int32_t vocab, uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<int32_t> tokens(count);
  for (int32_t& token : tokens) token = static_cast<int32_t>(random() % vocab);
  return tokens;
}

}  // namespace spotlight::check
