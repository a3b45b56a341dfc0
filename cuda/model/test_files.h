// Model files written by the tests themselves: a temporary folder, GGUF and safetensors writers
// that can also write what no sane writer would, and the two file forms of one dummy model.
#pragma once

#include <ggml.h>
#include <stdlib.h>

#include <cmath>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>
#include <utility>
#include <vector>

#include "model/weight_plan.h"
#include "model/weights.h"
#include "test/check.h"

namespace spotlight::check {

class TempFolder {
 public:
  TempFolder() {
    std::string name = (std::filesystem::temp_directory_path() / "spotlight-XXXXXX").string();
    if (mkdtemp(name.data()) == nullptr) throw std::runtime_error("no temporary folder");
    path_ = name;
  }
  ~TempFolder() { std::filesystem::remove_all(path_); }
  TempFolder(const TempFolder&) = delete;
  TempFolder& operator=(const TempFolder&) = delete;
  std::string at(const std::string& name) const { return path_ + "/" + name; }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

inline void write_file(const std::string& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary | std::ios::trunc)
      .write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
}

inline std::string read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return std::string(std::istreambuf_iterator<char>(file), {});
}

template <typename T>
std::string raw(const T& value) {
  return std::string(reinterpret_cast<const char*>(&value), sizeof value);
}

// ---- GGUF ----

struct GgufBuilder {
  uint32_t version = 3;
  std::vector<std::pair<std::string, std::string>> values;  // key -> type and value, as stored
  struct Tensor {
    std::string name;
    std::vector<uint64_t> dims;  // innermost first
    uint32_t type;
    std::string bytes;
  };
  std::vector<Tensor> tensors;

  static std::string text(const std::string& value) { return raw<uint64_t>(value.size()) + value; }
  void set(const std::string& key, const std::string& typed) {
    for (auto& [name, value] : values)
      if (name == key) return void(value = typed);
    values.emplace_back(key, typed);
  }
  void set_uint(const std::string& key, uint32_t value) { set(key, raw<uint32_t>(4) + raw(value)); }
  void set_float(const std::string& key, float value) { set(key, raw<uint32_t>(6) + raw(value)); }
  void set_bool(const std::string& key, bool value) {
    set(key, raw<uint32_t>(7) + raw<uint8_t>(value));
  }
  void set_text(const std::string& key, const std::string& value) {
    set(key, raw<uint32_t>(8) + text(value));
  }
  void set_texts(const std::string& key, const std::vector<std::string>& list) {
    std::string typed = raw<uint32_t>(9) + raw<uint32_t>(8) + raw<uint64_t>(list.size());
    for (const std::string& entry : list) typed += text(entry);
    set(key, typed);
  }
  void set_ints(const std::string& key, const std::vector<int32_t>& list) {
    std::string typed = raw<uint32_t>(9) + raw<uint32_t>(5) + raw<uint64_t>(list.size());
    for (int32_t entry : list) typed += raw(entry);
    set(key, typed);
  }
  void unset(const std::string& key) {
    for (size_t i = 0; i < values.size(); i++)
      if (values[i].first == key) return void(values.erase(values.begin() + static_cast<long>(i)));
  }
  Tensor& tensor(const std::string& name) {
    for (Tensor& entry : tensors)
      if (entry.name == name) return entry;
    throw std::runtime_error("no tensor " + name);
  }

  // Where the header ends and the data begins.
  size_t header_size() const { return header().size(); }
  std::string bytes() const {
    std::string out = header();
    for (const Tensor& entry : tensors) {
      out.resize((out.size() + 31) / 32 * 32);
      out += entry.bytes;
    }
    return out;
  }

 private:
  std::string header() const {
    std::string out =
        "GGUF" + raw(version) + raw<uint64_t>(tensors.size()) + raw<uint64_t>(values.size());
    for (const auto& [key, typed] : values) out += text(key) + typed;
    uint64_t offset = 0;
    for (const Tensor& entry : tensors) {
      out += text(entry.name) + raw<uint32_t>(static_cast<uint32_t>(entry.dims.size()));
      for (uint64_t extent : entry.dims) out += raw(extent);
      out += raw(entry.type) + raw(offset);
      offset = (offset + entry.bytes.size() + 31) / 32 * 32;
    }
    out.resize((out.size() + 31) / 32 * 32);
    return out;
  }
};

// ---- safetensors ----

struct SafetensorsBuilder {
  struct Tensor {
    std::string name, dtype, shape, bytes;  // shape as JSON
  };
  std::vector<Tensor> tensors;
  std::string metadata;  // a JSON object, empty for none

  std::string header() const {
    std::string json = "{";
    if (!metadata.empty()) json += "\"__metadata__\":" + metadata + (tensors.empty() ? "" : ",");
    size_t offset = 0;
    for (const Tensor& entry : tensors) {
      json += (offset == 0 && &entry == &tensors.front() ? "\"" : ",\"") + entry.name +
              "\":{\"dtype\":\"" + entry.dtype + "\",\"shape\":" + entry.shape +
              ",\"data_offsets\":[" + std::to_string(offset) + "," +
              std::to_string(offset + entry.bytes.size()) + "]}";
      offset += entry.bytes.size();
    }
    return json + "}";
  }
  std::string bytes() const { return with_header(header()); }
  // The tensors behind a header of the caller's.
  std::string with_header(const std::string& json) const {
    std::string out = raw<uint64_t>(json.size()) + json;
    for (const Tensor& entry : tensors) out += entry.bytes;
    return out;
  }
};

// ---- one model in both forms ----

inline std::string bytes_of(const WeightView& view) {
  return std::string(static_cast<const char*>(view.data), view.bytes);
}

// Rows from half-split to interleaved order, as llama.cpp's converter writes a llama's Q and K.
inline std::string permute_rows(const std::string& bytes, int32_t heads, int32_t head_dim) {
  const size_t row = bytes.size() / (static_cast<size_t>(heads) * head_dim);
  std::string out(bytes.size(), '\0');
  for (int32_t head = 0; head < heads; head++)
    for (int32_t i = 0; i < head_dim / 2; i++)
      for (int32_t j = 0; j < 2; j++)
        out.replace((static_cast<size_t>(head) * head_dim + 2 * i + j) * row, row, bytes,
                    (static_cast<size_t>(head) * head_dim + j * (head_dim / 2) + i) * row, row);
  return out;
}

inline std::string gguf_architecture(const ModelConfig& config) {
  return config.architecture == "mistral" ? "llama" : config.architecture;
}

inline GgufBuilder gguf_of(const WeightFile& model) {
  const ModelConfig& config = model.config();
  const std::string arch = gguf_architecture(config);
  GgufBuilder file;
  file.set_text("general.architecture", arch);
  file.set_uint(arch + ".block_count", config.layers);
  file.set_uint(arch + ".context_length", config.max_model_len);
  file.set_uint(arch + ".embedding_length", config.hidden);
  file.set_uint(arch + ".feed_forward_length", config.intermediate);
  file.set_uint(arch + ".attention.head_count", config.query_heads);
  file.set_uint(arch + ".attention.head_count_kv", config.kv_heads);
  file.set_uint(arch + ".attention.key_length", config.head_dim);
  file.set_uint(arch + ".attention.value_length", config.head_dim);
  file.set_float(arch + ".attention.layer_norm_rms_epsilon", config.rms_norm_eps);
  file.set_float(arch + ".rope.freq_base", config.rope.theta);
  file.set_uint("tokenizer.ggml.bos_token_id", config.bos_token);
  file.set_uint("tokenizer.ggml.eos_token_id", config.eos_tokens.at(0));
  for (const PlannedWeight& planned : plan_weights(config)) {
    const WeightView& view = model.get(planned.name);
    std::string bytes = bytes_of(view);
    const std::string part = planned.name.substr(planned.name.rfind('.') + 1);
    if (arch == "llama" && part == "q")
      bytes = permute_rows(bytes, config.query_heads, config.head_dim);
    if (arch == "llama" && part == "k")
      bytes = permute_rows(bytes, config.kv_heads, config.head_dim);
    std::vector<uint64_t> dims = {static_cast<uint64_t>(view.cols)};
    if (planned.kind == WeightKind::kMatrix) dims.push_back(static_cast<uint64_t>(view.rows));
    file.tensors.push_back({planned.gguf, dims, static_cast<uint32_t>(view.ggml_type), bytes});
  }
  return file;
}

inline SafetensorsBuilder safetensors_of(const WeightFile& model) {
  SafetensorsBuilder file;
  for (const PlannedWeight& planned : plan_weights(model.config())) {
    const WeightView& view = model.get(planned.name);
    const std::string cols = std::to_string(view.cols);
    const bool matrix = planned.kind == WeightKind::kMatrix;
    file.tensors.push_back(
        {planned.hugging_face, view.ggml_type == GGML_TYPE_F32 ? "F32" : "BF16",
         matrix ? "[" + std::to_string(view.rows) + "," + cols + "]" : "[" + cols + "]",
         bytes_of(view)});
  }
  return file;
}

// config.json's fields as JSON text, for tests to change; with shortest-round-trip decimals as
// Python writes them.
inline std::vector<std::pair<std::string, std::string>> hf_fields(const ModelConfig& config) {
  const auto decimal = [](float value) {
    char text[32];
    std::snprintf(text, sizeof text, "%.7g", static_cast<double>(value));
    return std::string(text);
  };
  std::string class_name = config.architecture + "ForCausalLM";
  class_name[0] = static_cast<char>(class_name[0] - 'a' + 'A');
  return {{"model_type", "\"" + config.architecture + "\""},
          {"architectures", "[\"" + class_name + "\"]"},
          {"hidden_act", "\"silu\""},
          {"num_hidden_layers", std::to_string(config.layers)},
          {"hidden_size", std::to_string(config.hidden)},
          {"intermediate_size", std::to_string(config.intermediate)},
          {"num_attention_heads", std::to_string(config.query_heads)},
          {"num_key_value_heads", std::to_string(config.kv_heads)},
          {"head_dim", std::to_string(config.head_dim)},
          {"vocab_size", std::to_string(config.vocab)},
          {"max_position_embeddings", std::to_string(config.max_model_len)},
          {"rms_norm_eps", decimal(config.rms_norm_eps)},
          {"rope_theta", decimal(config.rope.theta)},
          {"rope_scaling", "null"},
          {"tie_word_embeddings", config.tied_embeddings ? "true" : "false"},
          {"bos_token_id", std::to_string(config.bos_token)},
          {"eos_token_id", std::to_string(config.eos_tokens.at(0))}};
}

// The fields with some replaced or added; an empty value takes a field away.
inline std::string hf_json(std::vector<std::pair<std::string, std::string>> fields,
                           const std::vector<std::pair<std::string, std::string>>& changes = {}) {
  for (const auto& [key, value] : changes) {
    bool found = false;
    for (auto& field : fields)
      if (field.first == key) field.second = value, found = true;
    if (!found) fields.emplace_back(key, value);
  }
  std::string json;
  for (const auto& [key, value] : fields)
    if (!value.empty()) json += (json.empty() ? "{\"" : ",\"") + key + "\":" + value;
  return json + "}";
}

inline void check_same_weights(const WeightFile& actual, const WeightFile& expected) {
  CHECK_EQ(actual.views().size(), expected.views().size());
  for (const auto& [name, view] : expected.views()) {
    const WeightView& other = actual.get(name);
    CHECK_EQ(other.ggml_type, view.ggml_type);
    CHECK_EQ(other.rows, view.rows);
    CHECK_EQ(other.cols, view.cols);
    CHECK_EQ(other.bytes, view.bytes);
    if (std::memcmp(other.data, view.data, view.bytes) != 0)
      fail(__FILE__, __LINE__, name + ": bytes differ");
  }
}

}  // namespace spotlight::check
