#include <string>

#include "artifact/artifact.h"
#include "attention/spotlight/encode/limits.h"
#include "error.h"

namespace spotlight::gpu {

void check_limits(const Artifact& artifact) {
  const auto refuse = [](const std::string& what, int32_t most, int32_t got) {
    throw Error(kArtifactMismatch, "the artifact's " + what + " can be at most " +
                                       std::to_string(most) + " on a GPU, not " +
                                       std::to_string(got));
  };
  if (artifact.encoder == "linear-asym" && artifact.bits > kMaxLinearBits)
    refuse("bits", kMaxLinearBits, artifact.bits);
  if (artifact.encoder == "mlp" && artifact.hidden > kMaxHidden)
    refuse("hidden width", kMaxHidden, artifact.hidden);
  const int32_t group = artifact.query_heads / artifact.kv_heads;
  if (group > kMaxGroup) refuse("query heads a KV head", kMaxGroup, group);
  if (artifact.head_dim > kMaxHeadDim) refuse("head_dim", kMaxHeadDim, artifact.head_dim);
}

}  // namespace spotlight::gpu
