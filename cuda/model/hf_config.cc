#include "model/hf_config.h"

#include <sys/stat.h>

#include <algorithm>

#include "error.h"
#include "model/json.h"

namespace spotlight {
namespace {

[[noreturn]] void unsupported(const JsonObject& json, const std::string& what) {
  throw Error(kModelUnsupported, json.where() + ": " + what + " is not supported");
}

std::optional<int32_t> size(const JsonObject& json, const char* field) {
  const auto value = json.integer(field);
  if (!value) return std::nullopt;
  if (*value < 1 || *value > INT32_MAX) json.wrong(field, "is " + std::to_string(*value));
  return static_cast<int32_t>(*value);
}

int32_t needed_size(const JsonObject& json, const char* field) {
  const auto value = size(json, field);
  if (!value) json.wrong(field, "is missing");
  return *value;
}

float number(const JsonObject& json, const char* field, double absent) {
  return static_cast<float>(json.number(field).value_or(absent));
}

// One id or a list of ids.
std::vector<int32_t> token_ids(const JsonObject& json, const char* field) {
  const Json* value = json.find(field);
  if (value == nullptr) return {};
  std::vector<int32_t> ids;
  for (const Json& id : value->is_array() ? *value : Json::array({*value})) {
    if (!id.is_number_integer() || id.get<int64_t>() < 0 || id.get<int64_t>() > INT32_MAX)
      json.wrong(field, "must be a token id or a list of token ids");
    ids.push_back(id.get<int32_t>());
  }
  return ids;
}

std::string architecture_of(const JsonObject& json) {
  static constexpr const char* kKnown[][2] = {{"llama", "LlamaForCausalLM"},
                                              {"mistral", "MistralForCausalLM"},
                                              {"qwen2", "Qwen2ForCausalLM"},
                                              {"qwen3", "Qwen3ForCausalLM"}};
  const auto type = json.text("model_type");
  if (!type) json.wrong("model_type", "is missing");
  const auto known = std::find_if(std::begin(kKnown), std::end(kKnown),
                                  [&](const auto& entry) { return *type == entry[0]; });
  if (known == std::end(kKnown))
    unsupported(json, "architecture " + *type + " (supported: llama, mistral, qwen2, qwen3)");
  if (const Json* classes = json.find("architectures");
      classes != nullptr && classes->is_array() && !classes->empty()) {
    const Json& first = classes->front();
    if (!first.is_string()) json.wrong("architectures", "must hold names");
    if (first.get<std::string>() != (*known)[1])
      unsupported(json, "architecture " + first.get<std::string>());
  }
  return *type;
}

void read_rope(const JsonObject& json, ModelConfig& config) {
  RopeConfig& rope = config.rope;
  rope.theta = number(json, "rope_theta", 10000.0);
  if (json.number("partial_rotary_factor").value_or(1.0) != 1.0)
    unsupported(json, "partial_rotary_factor");
  // transformers 5 writes rope_parameters, theta included; before it, rope_scaling beside
  // rope_theta.
  auto scaling = json.object("rope_parameters");
  if (!scaling) scaling = json.object("rope_scaling");
  if (!scaling) return;
  for (const auto& [key, value] : scaling->json().items())
    if (value.is_object()) unsupported(json, "RoPE that differs by layer (" + key + ")");
  rope.theta = number(*scaling, "rope_theta", rope.theta);
  if (scaling->number("partial_rotary_factor").value_or(1.0) != 1.0)
    unsupported(*scaling, "partial_rotary_factor");
  std::string type = scaling->text("rope_type").value_or("");
  if (type.empty()) type = scaling->text("type").value_or("default");
  if (type == "default") return;
  if (type != "linear" && type != "llama3" && type != "yarn")
    unsupported(*scaling, "RoPE scaling " + type + " (supported: linear, llama3, yarn)");
  if (!scaling->has("factor")) scaling->wrong("factor", "is missing");
  rope.factor = number(*scaling, "factor", 1.0);
  if (type == "linear") {
    rope.scaling = rope.factor == 1.f ? RopeScaling::kNone : RopeScaling::kLinear;
    return;
  }
  rope.original_max_position =
      size(*scaling, "original_max_position_embeddings")
          .value_or(size(json, "original_max_position_embeddings").value_or(config.max_model_len));
  if (type == "llama3") {
    rope.scaling = RopeScaling::kLlama3;
    for (const char* field : {"low_freq_factor", "high_freq_factor"})
      if (!scaling->has(field)) scaling->wrong(field, "is missing");
    rope.low_freq_factor = number(*scaling, "low_freq_factor", 1.0);
    rope.high_freq_factor = number(*scaling, "high_freq_factor", 4.0);
    return;
  }
  rope.scaling = RopeScaling::kYarn;
  rope.beta_fast = number(*scaling, "beta_fast", 32.0);
  rope.beta_slow = number(*scaling, "beta_slow", 1.0);
  rope.attention_factor = number(*scaling, "attention_factor", 0.0);
  for (const char* field : {"mscale", "mscale_all_dim"})
    if (scaling->number(field).value_or(0.0) != 0.0)
      unsupported(*scaling, std::string("YaRN with ") + field);
  if (!scaling->boolean("truncate").value_or(true))
    unsupported(*scaling, "YaRN with truncate false");
}

// Refuses a window where it would hide tokens: some layer has one, and it is shorter than the
// context.
void refuse_window(const JsonObject& json, const ModelConfig& config) {
  const auto window = json.integer("sliding_window");
  bool used = config.architecture == "mistral" && window.has_value();
  if (config.architecture == "qwen2" || config.architecture == "qwen3")
    used = json.boolean("use_sliding_window").value_or(false) &&
           json.integer("max_window_layers").value_or(0) < config.layers;
  if (const Json* types = json.find("layer_types")) {
    if (!types->is_array()) json.wrong("layer_types", "must be a list");
    for (const Json& type : *types) {
      if (!type.is_string()) json.wrong("layer_types", "must hold names");
      const auto& name = type.get_ref<const std::string&>();
      if (name == "sliding_attention")
        used = true;
      else if (name != "full_attention")
        unsupported(json, "layer type " + name);
    }
  }
  if (used && window.value_or(4096) < config.max_model_len)
    unsupported(json, "a sliding window (sliding_window " + std::to_string(window.value_or(4096)) +
                          " of a context of " + std::to_string(config.max_model_len) + " tokens)");
}

}  // namespace

ModelConfig read_hugging_face_config(const std::string& folder) {
  const JsonObject json = JsonObject::read(folder + "/config.json");
  ModelConfig config;
  config.architecture = architecture_of(json);
  if (json.has("quantization_config"))
    unsupported(json, "quantization_config (use F32, F16 or BF16 weights, or a GGUF)");
  if (const auto activation = json.text("hidden_act"); activation && *activation != "silu")
    unsupported(json, "hidden_act " + *activation);
  if (json.boolean("mlp_bias").value_or(false)) unsupported(json, "mlp_bias");
  config.layers = needed_size(json, "num_hidden_layers");
  config.hidden = needed_size(json, "hidden_size");
  config.intermediate = needed_size(json, "intermediate_size");
  config.query_heads = needed_size(json, "num_attention_heads");
  config.kv_heads = size(json, "num_key_value_heads").value_or(config.query_heads);
  config.head_dim =
      size(json, "head_dim")
          .value_or(config.architecture == "qwen3" ? 128 : config.hidden / config.query_heads);
  config.vocab = needed_size(json, "vocab_size");
  config.max_model_len = needed_size(json, "max_position_embeddings");
  config.rms_norm_eps = number(json, "rms_norm_eps", 1e-6);
  config.tied_embeddings = json.boolean("tie_word_embeddings").value_or(false);
  config.qkv_bias =
      config.architecture == "qwen2" || json.boolean("attention_bias").value_or(false);
  config.qk_norm = config.architecture == "qwen3";
  read_rope(json, config);
  refuse_window(json, config);
  config.max_model_len = scaled_context(config);

  const auto bos = token_ids(json, "bos_token_id");
  config.bos_token = bos.empty() ? -1 : bos.front();
  config.eos_tokens = token_ids(json, "eos_token_id");
  struct stat info;
  if (const std::string path = folder + "/generation_config.json"; stat(path.c_str(), &info) == 0)
    for (int32_t id : token_ids(JsonObject::read(path), "eos_token_id"))
      if (std::find(config.eos_tokens.begin(), config.eos_tokens.end(), id) ==
          config.eos_tokens.end())
        config.eos_tokens.push_back(id);
  try {
    validate(config);
  } catch (const Error& error) {
    throw Error(error.code(), json.where() + ": " + error.what());
  }
  return config;
}

}  // namespace spotlight
