#include "attention/spotlight/encode/encoder.h"

#include <cstring>

#include "error.h"

namespace spotlight {

WeightMatrix::WeightMatrix(const std::vector<float>& values) {
  bool exact = true;
  for (const float value : values) {
    uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    exact = exact && (bits & 0xffffu) == 0;
  }
  if (!exact) {
    wide_ = values;
    return;
  }
  narrow_.reserve(values.size());
  for (const float value : values) {
    uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    narrow_.push_back(static_cast<uint16_t>(bits >> 16));
  }
}

void check_artifact(const Artifact& artifact, int32_t layers) {
  const auto refuse = [](const std::string& why) {
    throw Error(kArtifactMismatch, "the artifact's " + why);
  };
  if (artifact.bits < 32 || artifact.bits % 32 != 0 || artifact.bits > 4096)
    refuse("bits must be a multiple of 32 from 32 to 4096, not " + std::to_string(artifact.bits));
  if (artifact.head_dim < 16 || artifact.head_dim % 16 != 0)
    refuse("head_dim must be a multiple of 16, not " + std::to_string(artifact.head_dim));
  if (artifact.kv_heads < 1 || artifact.query_heads % artifact.kv_heads != 0)
    refuse("query_heads (" + std::to_string(artifact.query_heads) +
           ") must be a multiple of its kv_heads (" + std::to_string(artifact.kv_heads) + ")");
  if (static_cast<int32_t>(artifact.layers.size()) > layers)
    refuse("layers reach to " + std::to_string(artifact.layers.size()) + ", the model has " +
           std::to_string(layers));
  if (artifact.encoder != "linear-asym" && artifact.encoder != "mlp")
    refuse("encoder must be linear-asym or mlp, not \"" + artifact.encoder + "\"");
}

std::unique_ptr<Encoder> make_encoder(const Artifact& artifact, int32_t layers) {
  check_artifact(artifact, layers);
  if (artifact.encoder == "mlp") return make_mlp_encoder(artifact, layers);
  return make_linear_asym_encoder(artifact, layers);
}

}  // namespace spotlight
