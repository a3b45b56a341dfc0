// A model's shape as every room of the native module sees it; filled by the loaders, checked by
// validate(). Canonical RoPE order is half-split: a GGUF llama's Q and K rows are un-permuted by
// the loader, so nothing behind it knows the interleaved order, and artifacts mean the same for
// every file format.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace spotlight {

enum class RopeScaling { kNone, kLinear, kLlama3, kYarn };

struct RopeConfig {
  float theta = 10000.f;
  RopeScaling scaling = RopeScaling::kNone;
  float factor = 1.f;                 // linear, llama3, yarn
  float low_freq_factor = 1.f;        // llama3
  float high_freq_factor = 4.f;       // llama3
  int32_t original_max_position = 0;  // llama3, yarn
  float beta_fast = 32.f;             // yarn
  float beta_slow = 1.f;              // yarn
  float attention_factor = 0.f;       // yarn; 0 takes 0.1 ln(factor) + 1
  // llama3 as GGUF stores it: [head_dim / 2] divisors; empty when computed from the fields above.
  std::vector<float> freq_factors;
};

struct ModelConfig {
  std::string architecture;  // "llama", "qwen2", "qwen3", "mistral"
  int32_t layers = 0;
  int32_t hidden = 0;
  int32_t intermediate = 0;
  int32_t query_heads = 0;
  int32_t kv_heads = 0;
  int32_t head_dim = 0;
  int32_t vocab = 0;
  int32_t max_model_len = 0;
  float rms_norm_eps = 1e-5f;
  RopeConfig rope;
  bool tied_embeddings = false;
  bool qkv_bias = false;  // qwen2
  bool qk_norm = false;   // qwen3
  int32_t bos_token = -1;
  std::vector<int32_t> eos_tokens;

  int32_t group() const { return query_heads / kv_heads; }
  int32_t query_width() const { return query_heads * head_dim; }
  int32_t kv_width() const { return kv_heads * head_dim; }
};

// Throws MODEL_UNSUPPORTED or MODEL_CORRUPT naming the field.
void validate(const ModelConfig& config);

// The context that linear or YaRN scaling reaches from max_model_len as the file states it (files
// state the unscaled one); unchanged for other scalings. Throws MODEL_CORRUPT when it is no sane
// number.
int32_t scaled_context(const ModelConfig& config);

// One line a field, sorted, independent of the file format; its SHA-256 is the model's fingerprint
// (taken in index.ts).
std::string fingerprint_text(const ModelConfig& config);

}  // namespace spotlight
