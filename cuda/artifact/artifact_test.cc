#include "artifact/artifact.h"

#include <functional>

#include "model/test_files.h"

namespace spotlight {
namespace {

using check::SafetensorsBuilder;
using check::TempFolder;
using Metadata = std::map<std::string, std::string>;

const std::string kFingerprint(64, 'a');

std::string json(const Metadata& metadata) {
  std::string text;
  for (const auto& [key, value] : metadata)
    text += (text.empty() ? "{\"" : ",\"") + key + "\":\"" + value + "\"";
  return text + "}";
}

Metadata linear_metadata() {
  return {{"format", "spotlight-artifact-1"},
          {"encoder", "linear-asym"},
          {"bits", "32"},
          {"head_dim", "4"},
          {"query_heads", "2"},
          {"kv_heads", "1"},
          {"model_fingerprint", kFingerprint},
          {"recipe", "500 steps"}};
}

// Values 0, 1, 2, … as float32.
SafetensorsBuilder::Tensor tensor(const std::string& name, const std::vector<int>& shape) {
  int count = 1;
  std::string text = "[", bytes;
  for (int extent : shape)
    text += (count *= extent, text.size() > 1 ? "," : "") + std::to_string(extent);
  for (int i = 0; i < count; i++) bytes += check::raw(static_cast<float>(i));
  return {name, "F32", text + "]", bytes};
}

SafetensorsBuilder linear(const std::vector<int>& layers = {0, 3}) {
  SafetensorsBuilder file;
  file.metadata = json(linear_metadata());
  for (int layer : layers) {
    const std::string at = "layers." + std::to_string(layer) + ".";
    file.tensors.push_back(tensor(at + "key.weight", {1, 4, 32}));
    file.tensors.push_back(tensor(at + "query.weight", {2, 4, 32}));
  }
  return file;
}

Artifact read(const SafetensorsBuilder& file) {
  const TempFolder folder;
  check::write_file(folder.at("a"), file.bytes());
  return read_artifact(folder.at("a"));
}

TEST(linear_artifacts_are_read_with_gaps_between_layers) {
  const Artifact artifact = read(linear());
  CHECK_EQ(artifact.encoder, "linear-asym");
  CHECK_EQ(artifact.bits, 32);
  CHECK_EQ(artifact.plane_bits(), 32);
  CHECK_EQ(artifact.head_dim, 4);
  CHECK_EQ(artifact.query_heads, 2);
  CHECK_EQ(artifact.kv_heads, 1);
  CHECK_EQ(artifact.layers.size(), size_t{4});
  CHECK(artifact.layers[1].key.empty() && artifact.layers[2].query.empty());
  CHECK_EQ(artifact.layers[3].key.size(), size_t{128});
  CHECK_EQ(artifact.layers[3].query.at(255), 255.f);
  CHECK_EQ(artifact.metadata.at("recipe"), "500 steps");
}

TEST(half_precision_is_widened_exactly) {
  SafetensorsBuilder file = linear({0});
  for (const bool bf16 : {true, false}) {
    SafetensorsBuilder::Tensor& key = file.tensors[0];
    key.dtype = bf16 ? "BF16" : "F16";
    key.bytes.clear();
    for (int i = 0; i < 128; i++)
      key.bytes +=
          bf16 ? check::raw(ggml_fp32_to_bf16(i * 0.5f)) : check::raw(ggml_fp32_to_fp16(i * 0.5f));
    const Artifact artifact = read(file);
    for (int i = 0; i < 128; i++) CHECK_EQ(artifact.layers[0].key[i], i * 0.5f);
  }
}

SafetensorsBuilder mlp() {
  SafetensorsBuilder file;
  Metadata metadata = linear_metadata();
  metadata["encoder"] = "mlp";
  file.metadata = json(metadata);
  file.tensors = {tensor("layers.1.mlp.w1", {2, 4, 8}), tensor("layers.1.mlp.b1", {2, 8}),
                  tensor("layers.1.mlp.w2", {2, 8, 32}), tensor("layers.1.mlp.b2", {2, 32})};
  return file;
}

TEST(mlp_artifacts_are_read) {
  const Artifact artifact = read(mlp());
  CHECK_EQ(artifact.hidden, 8);
  CHECK_EQ(artifact.plane_bits(), 64);
  CHECK_EQ(artifact.layers.size(), size_t{2});
  CHECK_EQ(artifact.layers[1].w1.size(), size_t{64});
  CHECK_EQ(artifact.layers[1].b2.at(63), 63.f);
  SafetensorsBuilder narrow = mlp();
  narrow.tensors.pop_back();
  CHECK_THROWS(read(narrow), kArtifactCorrupt, "layer 1 lacks");
}

TEST(what_disagrees_is_refused_naming_it) {
  struct Wrong {
    std::function<void(SafetensorsBuilder&, Metadata&)> change;
    const char* part;
  };
  const auto set_value = [](float value) {
    return [value](SafetensorsBuilder& f, Metadata&) {
      f.tensors[2].bytes.replace(4 * 7, 4, check::raw(value));
    };
  };
  const Wrong cases[] = {
      {[](SafetensorsBuilder&, Metadata& m) { m.erase("format"); }, "metadata format is missing"},
      {[](SafetensorsBuilder&, Metadata& m) { m["format"] = "spotlight-artifact-9"; },
       "spotlight-artifact-9"},
      {[](SafetensorsBuilder&, Metadata& m) { m["encoder"] = "lsh"; }, "encoder is lsh"},
      {[](SafetensorsBuilder&, Metadata& m) { m["bits"] = "32x"; }, "bits is 32x"},
      {[](SafetensorsBuilder&, Metadata& m) { m["bits"] = "0"; }, "bits is 0"},
      {[](SafetensorsBuilder&, Metadata& m) { m["bits"] = "33"; }, "multiple of 32"},
      {[](SafetensorsBuilder&, Metadata& m) { m["bits"] = "64"; },
       "key.weight has shape [1, 4, 32] where metadata says [1, 4, 64]"},
      {[](SafetensorsBuilder&, Metadata& m) { m["kv_heads"] = "3"; }, "do not divide"},
      {[](SafetensorsBuilder&, Metadata& m) { m["query_heads"] = "4"; },
       "query.weight has shape [2, 4, 32]"},
      {[](SafetensorsBuilder&, Metadata& m) { m["head_dim"] = "99999999999999999999"; },
       "head_dim is 9999"},
      {[](SafetensorsBuilder&, Metadata& m) { m["model_fingerprint"] = "abc"; },
       "model_fingerprint is not 64"},
      {[](SafetensorsBuilder& f, Metadata&) { f.tensors.clear(); }, "holds no tensors"},
      {[](SafetensorsBuilder& f, Metadata&) { f.tensors.pop_back(); },
       "layer 3 lacks its key.weight or query.weight"},
      {[](SafetensorsBuilder& f, Metadata&) { f.tensors[0].name = "model.embed"; },
       "model.embed is not a tensor of an artifact"},
      {[](SafetensorsBuilder& f, Metadata&) { f.tensors[0].name = "layers.00.key.weight"; },
       "layers.00.key.weight is not"},
      {[](SafetensorsBuilder& f, Metadata&) { f.tensors[0].name = "layers.-1.key.weight"; },
       "layers.-1.key.weight is not"},
      {[](SafetensorsBuilder& f, Metadata&) { f.tensors[0].name = "layers.2000000000.key.weight"; },
       "layers.2000000000"},
      {[](SafetensorsBuilder& f, Metadata&) { f.tensors[0].name = "layers.0.mlp.w1"; },
       "not a tensor of encoder linear-asym"},
      {[](SafetensorsBuilder& f, Metadata&) { f.tensors[0].dtype = "I32"; }, "dtype I32"},
      {set_value(NAN), "layers.3.key.weight: value 7 is NaN or infinite"},
      {set_value(-INFINITY), "layers.3.key.weight: value 7"},
  };
  for (const Wrong& wrong : cases) {
    SafetensorsBuilder file = linear();
    Metadata metadata = linear_metadata();
    wrong.change(file, metadata);
    file.metadata = json(metadata);
    CHECK_THROWS(read(file), kArtifactCorrupt, wrong.part);
  }
}

TEST(truncation_and_random_damage_never_crash) {
  const TempFolder folder;
  CHECK_THROWS(read_artifact(folder.at("absent")), kArtifactNotFound, "absent");
  CHECK_THROWS(read_artifact(folder.path()), kArtifactNotFound, "not a file");
  const std::string whole = linear().bytes();
  for (size_t cut = 0; cut < whole.size(); cut += 7) {
    check::write_file(folder.at("a"), whole.substr(0, cut));
    CHECK_THROWS(read_artifact(folder.at("a")), kArtifactCorrupt, "/a: ");
  }
  uint32_t random = 4711;
  const auto next = [&] { return random = random * 1664525u + 1013904223u, random >> 8; };
  for (int round = 0; round < 4000; round++) {
    std::string bytes = whole;
    for (uint32_t flips = 1 + next() % 3; flips > 0; flips--)
      bytes[next() % bytes.size()] = static_cast<char>(next());
    check::write_file(folder.at("a"), bytes);
    try {
      const Artifact artifact = read_artifact(folder.at("a"));
      for (const LayerCode& layer : artifact.layers)
        for (float value : layer.key) CHECK(std::isfinite(value));
    } catch (const Error& error) {
      CHECK_EQ(std::string(error.code()), std::string(kArtifactCorrupt));
    }
  }
}

}  // namespace
}  // namespace spotlight
