// What the GPU's code kernels serve; an artifact beyond is refused when it is loaded.
#pragma once

#include <cstdint>

namespace spotlight {
struct Artifact;
}

namespace spotlight::gpu {

inline constexpr int32_t kMaxLinearBits = 256;  // of a KV head's code
inline constexpr int32_t kMaxHidden = 256;      // of an mlp
inline constexpr int32_t kMaxGroup = 16;        // query heads a KV head
inline constexpr int32_t kMaxHeadDim = 256;

// Throws ARTIFACT_MISMATCH naming the first limit the artifact exceeds.
void check_limits(const Artifact& artifact);

}  // namespace spotlight::gpu
