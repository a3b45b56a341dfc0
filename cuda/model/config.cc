#include "model/config.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <map>

#include "error.h"

namespace spotlight {
namespace {

constexpr double kPi = 3.14159265358979323846;

[[noreturn]] void corrupt(const std::string& field, const std::string& what) {
  throw Error(kModelCorrupt, field + ": " + what);
}

void check_range(const char* field, int64_t value, int64_t most) {
  if (value < 1 || value > most)
    corrupt(field, std::to_string(value) + " is not in 1.." + std::to_string(most));
}

void check_positive(const char* field, double value) {
  if (!std::isfinite(value) || value <= 0) corrupt(field, "must be finite and above zero");
}

void check_rope(const RopeConfig& rope, int32_t head_dim) {
  check_positive("rope theta", rope.theta);
  if (rope.scaling != RopeScaling::kNone) check_positive("rope scaling factor", rope.factor);
  if (rope.scaling == RopeScaling::kYarn) {
    check_range("rope original max position", rope.original_max_position, INT32_MAX);
    check_positive("rope beta_fast", rope.beta_fast);
    check_positive("rope beta_slow", rope.beta_slow);
    if (!std::isfinite(rope.attention_factor) || rope.attention_factor < 0)
      corrupt("rope attention_factor", "must be finite and not below zero");
  }
  if (rope.scaling == RopeScaling::kLlama3 && rope.freq_factors.empty()) {
    check_range("rope original max position", rope.original_max_position, INT32_MAX);
    check_positive("rope low_freq_factor", rope.low_freq_factor);
    check_positive("rope high_freq_factor", rope.high_freq_factor);
    if (rope.high_freq_factor <= rope.low_freq_factor)
      corrupt("rope high_freq_factor", "must be above low_freq_factor");
  }
  if (!rope.freq_factors.empty() && rope.scaling != RopeScaling::kLlama3)
    corrupt("rope frequency factors", "are known for llama3 scaling only");
  if (!rope.freq_factors.empty() && rope.freq_factors.size() != static_cast<size_t>(head_dim) / 2)
    corrupt("rope frequency factors", std::to_string(rope.freq_factors.size()) +
                                          " for a head_dim of " + std::to_string(head_dim));
  for (float factor : rope.freq_factors) check_positive("rope frequency factors", factor);
}

// llama3 scaling as divisors of the plain frequencies, the form GGUF stores; computed where the
// file gave parameters.
std::vector<float> llama3_divisors(const ModelConfig& config) {
  const RopeConfig& rope = config.rope;
  if (!rope.freq_factors.empty()) return rope.freq_factors;
  const double longest = rope.original_max_position / static_cast<double>(rope.low_freq_factor);
  const double shortest = rope.original_max_position / static_cast<double>(rope.high_freq_factor);
  std::vector<float> divisors(config.head_dim / 2);
  for (size_t i = 0; i < divisors.size(); i++) {
    const double wavelength =
        2 * kPi * std::pow(static_cast<double>(rope.theta), 2.0 * i / config.head_dim);
    const double smooth = (rope.original_max_position / wavelength - rope.low_freq_factor) /
                          (static_cast<double>(rope.high_freq_factor) - rope.low_freq_factor);
    divisors[i] = wavelength < shortest ? 1.f
                  : wavelength > longest
                      ? rope.factor
                      : static_cast<float>(1 / ((1 - smooth) / rope.factor + smooth));
  }
  return divisors;
}

std::string number(double value, int digits) {
  char text[32];  // to_chars, since printf would write another machine's decimal comma
  const auto end =
      std::to_chars(text, text + sizeof text, value, std::chars_format::general, digits);
  return std::string(text, end.ptr);
}

}  // namespace

void validate(const ModelConfig& config) {
  static constexpr const char* kKnown[] = {"llama", "mistral", "qwen2", "qwen3"};
  if (std::none_of(std::begin(kKnown), std::end(kKnown),
                   [&](const char* name) { return config.architecture == name; }))
    throw Error(kModelUnsupported,
                "architecture " + config.architecture +
                    " is not supported; supported: llama, mistral, qwen2, qwen3");
  // Far above any model, and low enough that products of two sizes stay within 64 bits.
  check_range("layers", config.layers, 1 << 12);
  check_range("hidden size", config.hidden, 1 << 20);
  check_range("intermediate size", config.intermediate, 1 << 22);
  check_range("query heads", config.query_heads, 1 << 12);
  check_range("kv heads", config.kv_heads, 1 << 12);
  check_range("head_dim", config.head_dim, 1 << 12);
  check_range("vocabulary size", config.vocab, 1 << 24);
  check_range("max model length", config.max_model_len, INT32_MAX);
  if (config.query_heads % config.kv_heads != 0)
    corrupt("query heads", std::to_string(config.query_heads) + " do not divide by " +
                               std::to_string(config.kv_heads) + " kv heads");
  if (config.head_dim % 16 != 0 || config.head_dim > 256)
    throw Error(kModelUnsupported, "head_dim " + std::to_string(config.head_dim) +
                                       " is not supported; a multiple of 16 up to 256 is");
  if (!(config.rms_norm_eps > 0 && config.rms_norm_eps < 1))
    corrupt("rms norm epsilon", "must be between 0 and 1");
  check_rope(config.rope, config.head_dim);
  if (config.bos_token < -1 || config.bos_token >= config.vocab)
    corrupt("bos token", std::to_string(config.bos_token) + " is outside the vocabulary");
  for (int32_t token : config.eos_tokens)
    if (token < 0 || token >= config.vocab)
      corrupt("eos token", std::to_string(token) + " is outside the vocabulary");
}

int32_t scaled_context(const ModelConfig& config) {
  const RopeScaling scaling = config.rope.scaling;
  if (scaling != RopeScaling::kLinear && scaling != RopeScaling::kYarn) return config.max_model_len;
  double reach = static_cast<double>(config.max_model_len) * config.rope.factor;
  if (scaling == RopeScaling::kYarn)
    reach = std::max<double>(
        config.max_model_len,
        static_cast<double>(config.rope.original_max_position) * config.rope.factor);
  if (!(reach >= 1 && reach <= INT32_MAX))
    corrupt("max model length", std::to_string(config.max_model_len) +
                                    " is out of range under RoPE scaling factor " +
                                    number(config.rope.factor, 6));
  return static_cast<int32_t>(reach);
}

std::string fingerprint_text(const ModelConfig& config) {
  const RopeConfig& rope = config.rope;
  std::map<std::string, std::string> facts = {
      // Mistral without a window is a llama, and GGUF knows no other name for it.
      {"architecture", config.architecture == "mistral" ? "llama" : config.architecture},
      {"head_dim", std::to_string(config.head_dim)},
      {"hidden", std::to_string(config.hidden)},
      {"intermediate", std::to_string(config.intermediate)},
      {"kv_heads", std::to_string(config.kv_heads)},
      {"layers", std::to_string(config.layers)},
      {"qk_norm", config.qk_norm ? "1" : "0"},
      {"qkv_bias", config.qkv_bias ? "1" : "0"},
      {"query_heads", std::to_string(config.query_heads)},
      {"rms_norm_eps", number(config.rms_norm_eps, 6)},
      {"rope.theta", number(config.rope.theta, 6)},
      {"tokenizer.bos", std::to_string(config.bos_token)},
      {"vocab", std::to_string(config.vocab)},
  };
  switch (rope.scaling) {
    case RopeScaling::kNone:
      facts["rope.scaling"] = "none";
      break;
    case RopeScaling::kLinear:
      facts["rope.scaling"] = "linear";
      facts["rope.factor"] = number(rope.factor, 6);
      break;
    case RopeScaling::kYarn:
      facts["rope.scaling"] = "yarn";
      facts["rope.factor"] = number(rope.factor, 6);
      facts["rope.original_max_position"] = std::to_string(rope.original_max_position);
      facts["rope.beta_fast"] = number(rope.beta_fast, 6);
      facts["rope.beta_slow"] = number(rope.beta_slow, 6);
      facts["rope.attention_factor"] = number(
          rope.attention_factor > 0 ? rope.attention_factor : 0.1 * std::log(rope.factor) + 1, 5);
      break;
    case RopeScaling::kLlama3: {
      // GGUF keeps the divisors, computed in float32 by its converter; three digits are beyond that
      // rounding.
      facts["rope.scaling"] = "llama3";
      std::string& text = facts["rope.divisors"];
      for (float divisor : llama3_divisors(config))
        text += (text.empty() ? "" : ",") + number(divisor, 3);
      break;
    }
  }
  std::string text;
  for (const auto& [key, value] : facts) text += key + "=" + value + "\n";
  return text;
}

}  // namespace spotlight
