// open_gguf: a llama.cpp model file as weights under the project's names. A llama's Q and K rows
// are stored interleaved there; they are copied back to half-split order, whole rows at a time,
// which is exact for quantised rows too.
#include <algorithm>
#include <cstring>
#include <set>

#include "error.h"
#include "model/gguf_reader.h"
#include "model/loaded_weights.h"

namespace spotlight {
namespace {

// Metadata under the architecture's prefix, as fields of the config.
class Fields {
 public:
  Fields(const GgufReader& file, std::string prefix) : file_(file), prefix_(std::move(prefix)) {}

  bool has(const char* name) const { return file_.has(key(name)); }

  int32_t size(const char* name) const {
    const auto value = optional_size(name);
    if (!value)
      throw Error(kModelCorrupt, file_.path() + ": metadata " + key(name) + " is missing");
    return *value;
  }

  std::optional<int32_t> optional_size(const char* name) const {
    if (file_.is_array(key(name)))
      throw Error(kModelUnsupported, file_.path() + ": metadata " + key(name) +
                                         " differs by layer, which is not supported");
    const auto value = file_.integer(key(name));
    if (!value) return std::nullopt;
    if (*value < 0 || *value > INT32_MAX)
      throw Error(kModelCorrupt,
                  file_.path() + ": metadata " + key(name) + " is " + std::to_string(*value));
    return static_cast<int32_t>(*value);
  }

  float number(const char* name, float absent) const {
    return static_cast<float>(file_.number(key(name)).value_or(absent));
  }

  std::string text(const char* name, const char* absent) const {
    return file_.text(key(name)).value_or(absent);
  }

 private:
  std::string key(const char* name) const { return prefix_ + name; }

  const GgufReader& file_;
  std::string prefix_;
};

void read_rope(const GgufReader& file, const Fields& fields, ModelConfig& config) {
  RopeConfig& rope = config.rope;
  rope.theta = fields.number("rope.freq_base", 10000.f);
  if (const auto dims = fields.optional_size("rope.dimension_count");
      dims && *dims != config.head_dim)
    throw Error(kModelUnsupported, file.path() + ": rotary dimensions " + std::to_string(*dims) +
                                       " of head_dim " + std::to_string(config.head_dim) +
                                       "; partial rotary embedding is not supported");
  std::string scaling = fields.text("rope.scaling.type", "none");
  rope.factor = fields.number("rope.scaling.factor", 1.f);
  // Files from before the scaling keys carry the linear factor alone.
  if (const float linear = fields.number("rope.scale_linear", 1.f);
      linear != 1.f && !fields.has("rope.scaling.type")) {
    scaling = "linear";
    rope.factor = linear;
  }
  if (scaling == "linear" && rope.factor != 1.f) {
    rope.scaling = RopeScaling::kLinear;
  } else if (scaling == "yarn") {
    rope.scaling = RopeScaling::kYarn;
    rope.original_max_position =
        fields.optional_size("rope.scaling.original_context_length").value_or(config.max_model_len);
    rope.beta_fast = fields.number("rope.scaling.yarn_beta_fast", rope.beta_fast);
    rope.beta_slow = fields.number("rope.scaling.yarn_beta_slow", rope.beta_slow);
    rope.attention_factor = fields.number("rope.scaling.yarn_attn_factor", 0.f);
    for (const char* name : {"rope.scaling.yarn_ext_factor", "rope.scaling.attn_factor"})
      if (fields.number(name, 1.f) != 1.f)
        throw Error(kModelUnsupported,
                    file.path() + ": YaRN with " + name + " other than 1 is not supported");
    if (fields.number("rope.scaling.yarn_log_multiplier", 0.f) != 0.f)
      throw Error(kModelUnsupported,
                  file.path() + ": YaRN with rope.scaling.yarn_log_multiplier is not supported");
  } else if (scaling != "none" && scaling != "linear") {
    throw Error(kModelUnsupported, file.path() + ": RoPE scaling " + scaling +
                                       " is not supported; supported: linear, yarn, llama3");
  }

  const auto factors = file.tensors().find("rope_freqs.weight");
  if (factors == file.tensors().end()) return;
  const GgufTensor& tensor = factors->second;
  if (rope.scaling != RopeScaling::kNone)
    throw Error(kModelUnsupported, file.path() + ": rope_freqs.weight together with RoPE scaling " +
                                       scaling + " is not supported");
  if (tensor.ggml_type != 0 || tensor.rows != 1)
    throw Error(kModelCorrupt, file.path() + ": tensor rope_freqs.weight is not one row of F32");
  rope.freq_factors.resize(tensor.cols);
  std::memcpy(rope.freq_factors.data(), tensor.data, tensor.bytes);
  rope.scaling = RopeScaling::kLlama3;
  rope.factor = *std::max_element(rope.freq_factors.begin(), rope.freq_factors.end());
}

ModelConfig read_config(const GgufReader& file) {
  ModelConfig config;
  const auto architecture = file.text("general.architecture");
  if (!architecture)
    throw Error(kModelCorrupt, file.path() + ": metadata general.architecture is missing");
  if (file.integer("split.count").value_or(1) > 1)
    throw Error(
        kModelUnsupported,
        file.path() + ": a GGUF split over several files; merge it with llama-gguf-split --merge");
  config.architecture = *architecture;
  if (config.architecture != "llama" && config.architecture != "qwen2" &&
      config.architecture != "qwen3")
    throw Error(kModelUnsupported,
                file.path() + ": architecture " + config.architecture +
                    " is not supported; supported: llama (with mistral), qwen2, qwen3");
  const Fields fields(file, config.architecture + ".");
  config.layers = fields.size("block_count");
  config.hidden = fields.size("embedding_length");
  config.intermediate = fields.size("feed_forward_length");
  config.query_heads = fields.size("attention.head_count");
  config.kv_heads = fields.optional_size("attention.head_count_kv").value_or(config.query_heads);
  if (config.query_heads < 1)
    throw Error(kModelCorrupt, file.path() + ": attention.head_count is 0");
  config.head_dim =
      fields.optional_size("attention.key_length").value_or(config.hidden / config.query_heads);
  config.max_model_len = fields.size("context_length");
  if (fields.optional_size("attention.value_length").value_or(config.head_dim) != config.head_dim)
    throw Error(kModelUnsupported,
                file.path() + ": keys and values of different length are not supported");
  if (const int32_t experts = fields.optional_size("expert_count").value_or(0); experts > 0)
    throw Error(kModelUnsupported, file.path() + ": a mixture of " + std::to_string(experts) +
                                       " experts is not supported");
  const int32_t window = fields.optional_size("attention.sliding_window").value_or(0);
  if (window > 0 && window < config.max_model_len)
    throw Error(kModelUnsupported, file.path() + ": a sliding window (" + std::to_string(window) +
                                       " of a context of " + std::to_string(config.max_model_len) +
                                       " tokens) is not supported");
  config.rms_norm_eps = fields.number("attention.layer_norm_rms_epsilon", 0.f);
  read_rope(file, fields, config);
  config.max_model_len = scaled_context(config);

  const auto embedding = file.tensors().find("token_embd.weight");
  if (embedding == file.tensors().end())
    throw Error(kModelCorrupt, file.path() + ": tensor token_embd.weight is missing");
  config.vocab = static_cast<int32_t>(embedding->second.rows);
  config.tied_embeddings = file.tensors().count("output.weight") == 0;
  config.qkv_bias = config.architecture == "qwen2" || file.tensors().count("blk.0.attn_q.bias") > 0;
  config.qk_norm = config.architecture == "qwen3";
  return config;
}

int32_t token_id(const GgufReader& file, const char* name) {
  const auto id = file.integer(std::string("tokenizer.ggml.") + name);
  if (!id) return -1;
  // The largest unsigned id is how some converters write "none".
  if (*id == UINT32_MAX) return -1;
  if (*id < -1 || *id > INT32_MAX)
    throw Error(kModelCorrupt,
                file.path() + ": metadata tokenizer.ggml." + name + " is " + std::to_string(*id));
  return static_cast<int32_t>(*id);
}

int8_t flag(const GgufReader& file, const char* name) {
  const auto value = file.boolean(std::string("tokenizer.ggml.") + name);
  return value ? static_cast<int8_t>(*value) : static_cast<int8_t>(-1);
}

TokenizerFields read_tokenizer(const GgufReader& file) {
  TokenizerFields fields;
  auto tokens = file.texts("tokenizer.ggml.tokens");
  fields.present = tokens.has_value();
  if (!fields.present) return fields;
  fields.tokens = std::move(*tokens);
  fields.model = file.text("tokenizer.ggml.model").value_or("");
  fields.pre = file.text("tokenizer.ggml.pre").value_or("");
  fields.chat_template = file.text("tokenizer.chat_template").value_or("");
  fields.merges = file.texts("tokenizer.ggml.merges").value_or(std::vector<std::string>());
  fields.scores = file.numbers("tokenizer.ggml.scores").value_or(std::vector<float>());
  fields.types = file.integers("tokenizer.ggml.token_type").value_or(std::vector<int32_t>());
  for (const auto& [name, size] :
       {std::pair("scores", fields.scores.size()), std::pair("token_type", fields.types.size())})
    if (size != 0 && size != fields.tokens.size())
      throw Error(kModelCorrupt, file.path() + ": metadata tokenizer.ggml." + name + " has " +
                                     std::to_string(size) + " entries for " +
                                     std::to_string(fields.tokens.size()) + " tokens");
  fields.bos = token_id(file, "bos_token_id");
  fields.eos = token_id(file, "eos_token_id");
  fields.unknown = token_id(file, "unknown_token_id");
  fields.pad = token_id(file, "padding_token_id");
  fields.add_bos = flag(file, "add_bos_token");
  fields.add_eos = flag(file, "add_eos_token");
  fields.add_space_prefix = flag(file, "add_space_prefix");
  return fields;
}

// Tokens that end a reply: those the metadata names, and the end-of-turn tokens of the chat formats
// these architectures are trained on, since older converters named only the end of a document.
std::vector<int32_t> end_tokens(const GgufReader& file, const TokenizerFields& tokenizer) {
  constexpr int32_t kControl = 3;
  std::vector<int32_t> ends;
  const auto add = [&](int32_t id) {
    if (id >= 0 && std::find(ends.begin(), ends.end(), id) == ends.end()) ends.push_back(id);
  };
  for (const char* name : {"eos_token_id", "eot_token_id", "eom_token_id"})
    add(token_id(file, name));
  const std::set<std::string> turn_ends = {"<|im_end|>", "<|eot_id|>", "<|eom_id|>"};
  for (size_t id = 0; id < tokenizer.types.size(); id++)
    if (tokenizer.types[id] == kControl && turn_ends.count(tokenizer.tokens[id]) > 0)
      add(static_cast<int32_t>(id));
  return ends;
}

// Row 2i + j of a head holds what half-split order keeps at j * head_dim / 2 + i.
void unpermute(const uint8_t* from, uint8_t* to, size_t row, int32_t heads, int32_t head_dim) {
  const int32_t half = head_dim / 2;
  for (int32_t head = 0; head < heads; head++, from += row * head_dim, to += row * head_dim)
    for (int32_t i = 0; i < half; i++)
      for (int32_t j = 0; j < 2; j++)
        std::memcpy(to + row * (j * half + i), from + row * (2 * i + j), row);
}

class GgufWeights : public LoadedWeights {
 public:
  explicit GgufWeights(GgufReader file) {
    config_ = read_config(file);
    tokenizer_ = read_tokenizer(file);
    config_.bos_token = token_id(file, "bos_token_id");
    config_.eos_tokens = end_tokens(file, tokenizer_);
    check_config(file);
    std::set<std::string> known = {"rope_freqs.weight"};
    for (const PlannedWeight& planned : plan_weights(config_)) {
      known.insert(planned.gguf);
      const auto tensor = file.tensors().find(planned.gguf);
      if (tensor == file.tensors().end())
        throw Error(kModelCorrupt, file.path() + ": tensor " + planned.gguf + " is missing");
      take(planned, tensor->second, file.path() + ": tensor " + planned.gguf);
    }
    for (const auto& [name, tensor] : file.tensors())
      if (known.count(name) == 0)
        throw Error(kModelUnsupported, file.path() + ": tensor " + name +
                                           " is no part of a supported " + config_.architecture +
                                           " model");
    keep(file.release());
  }

 private:
  void check_config(const GgufReader& file) {
    try {
      validate(config_);
    } catch (const Error& error) {
      throw Error(error.code(), file.path() + ": " + error.what());
    }
    if (tokenizer_.tokens.size() > static_cast<size_t>(config_.vocab))
      throw Error(kModelCorrupt, file.path() + ": " + std::to_string(tokenizer_.tokens.size()) +
                                     " tokens for an embedding of " +
                                     std::to_string(config_.vocab) + " rows");
  }

  void take(const PlannedWeight& planned, const GgufTensor& tensor, const std::string& where) {
    add(planned, {tensor.ggml_type, tensor.cols, tensor.rows, tensor.data, tensor.bytes}, where);
    const std::string part = planned.name.substr(planned.name.rfind('.') + 1);
    const bool query = part == "q" || part == "q_bias", key = part == "k" || part == "k_bias";
    if (config_.architecture != "llama" || !(query || key)) return;
    WeightView& view = views_[planned.name];
    auto* rows = static_cast<uint8_t*>(allocate(view.bytes));
    const int32_t heads = query ? config_.query_heads : config_.kv_heads;
    // A bias has one value where a matrix has a row.
    unpermute(static_cast<const uint8_t*>(view.data), rows,
              view.bytes / (static_cast<size_t>(heads) * config_.head_dim), heads,
              config_.head_dim);
    view.data = rows;
  }
};

}  // namespace

std::unique_ptr<WeightFile> open_gguf(const std::string& path) {
  return std::make_unique<GgufWeights>(GgufReader(path));
}

}  // namespace spotlight
