// Weights as the loaders hand them to a device: named views in ggml's types, rows contiguous,
// memory-mapped where the file allows; norms and biases are float32. Names are the project's own,
// so nothing behind the loaders sees a file format's names:
//   embed  norm  head (absent when tied), and under layers.{i}.
//   attn_norm  q k v o  q_bias k_bias v_bias  q_norm k_norm  mlp_norm  gate up down
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "model/config.h"

namespace spotlight {

struct WeightView {
  int ggml_type = 0;           // enum ggml_type
  int64_t cols = 0;            // input features; a vector has rows = 1
  int64_t rows = 0;            // output features
  const void* data = nullptr;  // [rows, cols] in ggml_type, rows contiguous
  size_t bytes = 0;
};

// What a weight file carries of the tokenizer; empty for safetensors and dummy.
struct TokenizerFields {
  bool present = false;
  std::string model, pre, chat_template;
  std::vector<std::string> tokens, merges;
  std::vector<float> scores;
  std::vector<int32_t> types;
  int32_t bos = -1, eos = -1, unknown = -1, pad = -1;
  int8_t add_bos = -1, add_eos = -1, add_space_prefix = -1;  // -1: absent in the file
};

class WeightFile {
 public:
  virtual ~WeightFile() = default;
  const ModelConfig& config() const { return config_; }
  const TokenizerFields& tokenizer() const { return tokenizer_; }
  bool has(const std::string& name) const { return views_.count(name) > 0; }
  // Throws MODEL_CORRUPT naming the tensor when it is absent.
  const WeightView& get(const std::string& name) const;
  const std::map<std::string, WeightView>& views() const { return views_; }

 protected:
  ModelConfig config_;
  TokenizerFields tokenizer_;
  std::map<std::string, WeightView> views_;
};

// Each throws MODEL_NOT_FOUND, MODEL_CORRUPT or MODEL_UNSUPPORTED with what is wrong and where.
std::unique_ptr<WeightFile> open_gguf(const std::string& path);
std::unique_ptr<WeightFile> open_safetensors(const std::string& folder);
// Seeded random weights of a named shape; layers and max_model_len replace its own when above 0.
std::unique_ptr<WeightFile> make_dummy(const std::string& shape, uint64_t seed, int32_t layers,
                                       int32_t max_model_len);

}  // namespace spotlight
