// read_artifact: shapes are the authority, metadata must agree with them, and every value must be
// finite: one NaN in a projection would silently turn a head's retrieval into noise.
#include "artifact/artifact.h"

#include <charconv>
#include <cmath>

#include "error.h"
#include "model/safetensors_file.h"

namespace spotlight {
namespace {

constexpr int32_t kMaxLayer = 1 << 12;

class Reader {
 public:
  explicit Reader(const std::string& path) : file_(path, kArtifactNotFound, kArtifactCorrupt) {}

  Artifact read() {
    artifact_.metadata = file_.metadata();
    const std::string& format = text("format");
    if (format != "spotlight-artifact-1")
      fail("metadata format is " + format + "; this reads spotlight-artifact-1");
    artifact_.encoder = text("encoder");
    if (artifact_.encoder != "linear-asym" && artifact_.encoder != "mlp")
      fail("metadata encoder is " + artifact_.encoder + "; supported: linear-asym, mlp");
    artifact_.bits = number("bits");
    artifact_.head_dim = number("head_dim");
    artifact_.query_heads = number("query_heads");
    artifact_.kv_heads = number("kv_heads");
    check_fingerprint(text("model_fingerprint"));
    if (artifact_.bits % 32 != 0)
      fail("metadata bits is " + text("bits") + ", not a multiple of 32");
    if (artifact_.query_heads % artifact_.kv_heads != 0)
      fail("metadata query_heads " + text("query_heads") + " do not divide by kv_heads " +
           text("kv_heads"));
    read_layers();
    return std::move(artifact_);
  }

 private:
  [[noreturn]] void fail(const std::string& what) const {
    throw Error(kArtifactCorrupt, file_.path() + ": " + what);
  }

  const std::string& text(const char* key) const {
    const auto found = artifact_.metadata.find(key);
    if (found == artifact_.metadata.end()) fail(std::string("metadata ") + key + " is missing");
    return found->second;
  }

  int32_t number(const char* key) const {
    const std::string& value = text(key);
    int32_t parsed = 0;
    const auto end = std::from_chars(value.data(), value.data() + value.size(), parsed);
    if (end.ec != std::errc() || end.ptr != value.data() + value.size() || parsed < 1 ||
        parsed > 1 << 16)
      fail(std::string("metadata ") + key + " is " + value + ", not a number in 1..65536");
    return parsed;
  }

  void check_fingerprint(const std::string& value) const {
    if (value.size() != 64 || value.find_first_not_of("0123456789abcdef") != std::string::npos)
      fail("metadata model_fingerprint is not 64 lower-case hex digits");
  }

  // Sorts tensors by layer; a name that is no artifact's is refused, since ignoring it would hide a
  // wrong file.
  void read_layers() {
    const bool mlp = artifact_.encoder == "mlp";
    if (file_.tensors().empty()) fail("holds no tensors");
    if (mlp) artifact_.hidden = hidden_width();
    std::map<int32_t, int> parts;
    for (const auto& [name, tensor] : file_.tensors()) {
      const auto [layer, part] = split(name);
      if (layer >= static_cast<int32_t>(artifact_.layers.size()))
        artifact_.layers.resize(layer + 1);
      read_part(name, tensor, part, artifact_.layers[layer]);
      parts[layer]++;
    }
    for (const auto& [layer, count] : parts)
      if (count != (mlp ? 4 : 2))
        fail("layer " + std::to_string(layer) + " lacks " +
             (mlp ? "some of mlp.w1, b1, w2, b2" : "its key.weight or query.weight"));
  }

  std::pair<int32_t, std::string> split(const std::string& name) const {
    const std::string prefix = "layers.";
    int32_t layer = -1;
    const char* end = name.data() + name.size();
    if (name.compare(0, prefix.size(), prefix) == 0) {
      const char* digits = name.data() + prefix.size();
      const auto parsed = std::from_chars(digits, end, layer);
      const bool canonical =
          parsed.ec == std::errc() && (*digits != '0' || parsed.ptr == digits + 1);
      if (canonical && layer >= 0 && layer < kMaxLayer && parsed.ptr < end && *parsed.ptr == '.')
        return {layer, std::string(parsed.ptr + 1, end)};
    }
    fail("tensor " + name + " is not a tensor of an artifact");
  }

  int32_t hidden_width() const {
    for (const auto& [name, tensor] : file_.tensors())
      if (split(name).second == "mlp.w1" && tensor.shape.size() == 3 && tensor.shape[2] > 0)
        return static_cast<int32_t>(tensor.shape[2]);
    fail("no layer carries mlp.w1 of three dimensions");
  }

  void read_part(const std::string& name, const SafetensorsTensor& tensor, const std::string& part,
                 LayerCode& layer) const {
    const int64_t q = artifact_.query_heads, kv = artifact_.kv_heads, dim = artifact_.head_dim,
                  bits = artifact_.bits, hidden = artifact_.hidden;
    if (artifact_.encoder == "linear-asym") {
      if (part == "key.weight") return take(name, tensor, {kv, dim, bits}, layer.key);
      if (part == "query.weight") return take(name, tensor, {q, dim, bits}, layer.query);
    } else {
      if (part == "mlp.w1") return take(name, tensor, {q, dim, hidden}, layer.w1);
      if (part == "mlp.b1") return take(name, tensor, {q, hidden}, layer.b1);
      if (part == "mlp.w2") return take(name, tensor, {q, hidden, bits}, layer.w2);
      if (part == "mlp.b2") return take(name, tensor, {q, bits}, layer.b2);
    }
    fail("tensor " + name + " is not a tensor of encoder " + artifact_.encoder);
  }

  void take(const std::string& name, const SafetensorsTensor& tensor,
            const std::vector<int64_t>& shape, std::vector<float>& values) const {
    if (ggml_type_of(tensor.dtype) < 0)
      fail("tensor " + name + " has dtype " + tensor.dtype + "; supported: F32, F16, BF16");
    if (tensor.shape != shape)
      fail("tensor " + name + " has shape " + shape_text(tensor.shape) + " where metadata says " +
           shape_text(shape));
    values = to_float(tensor);
    for (size_t i = 0; i < values.size(); i++)
      if (!std::isfinite(values[i]))
        fail("tensor " + name + ": value " + std::to_string(i) + " is NaN or infinite");
  }

  static std::string shape_text(const std::vector<int64_t>& shape) {
    std::string text;
    for (int64_t extent : shape) text += (text.empty() ? "[" : ", ") + std::to_string(extent);
    return text.empty() ? "[]" : text + "]";
  }

  SafetensorsFile file_;
  Artifact artifact_;
};

}  // namespace

Artifact read_artifact(const std::string& path) { return Reader(path).read(); }

}  // namespace spotlight
