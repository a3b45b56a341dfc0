// Codes of a tile of tokens that lies in shared memory, by all threads of a block: the key side of
// linear-asym, and mlp for keys and queries alike.
#pragma once

#include "attention/gpu/view.h"
#include "attention/spotlight/encode/limits.h"
#include "attention/spotlight/encode/project.cuh"

namespace spotlight::gpu {

inline constexpr int32_t kMlpTokens = 16;  // of one call of encode_mlp
// Tokens that share a read of key weights.
inline constexpr int32_t kKeyTokens = 32;

__device__ inline int32_t warp_id() { return static_cast<int32_t>(threadIdx.x / kWarp); }
__device__ inline int32_t warps() { return static_cast<int32_t>(blockDim.x / kWarp); }

// Gives the words of 8 tokens, of which the first is `first`, to store(token, word); lanes of the
// first two groups call it.
template <typename Store>
__device__ inline void store_words(const Sums& z, int32_t first, int32_t tokens, Store store) {
  const uint2 words = pack_signs(z);
  const int32_t token = first + 2 * lane_column() + lane_group();
  if (lane_group() < 2 && token < tokens) store(token, lane_group() == 0 ? words.x : words.y);
}

// x: [tokens rounded up to kKeyTokens, stride] in shared memory. store(token, word index, word).
template <typename T, typename Store>
__device__ __forceinline__ void encode_linear_keys(const LinearAsymWeights& weights, int32_t head,
                                                   int32_t head_dim, const T* x, int32_t stride,
                                                   int32_t tokens, Store store) {
  constexpr int kTiles = kKeyTokens / kTile, kSteps = 2;
  const Matrix matrix = head_matrix(weights.key, head, head_dim, weights.bits);
  const int32_t words = weights.bits / 32;
  const int32_t units = words * ((tokens + kKeyTokens - 1) / kKeyTokens);
#pragma unroll 1
  for (int32_t unit = warp_id(); unit < units; unit += warps()) {
    const int32_t word = unit % words, first = unit / words * kKeyTokens;
    Weights<kSteps> part;
    load_weights<false>(matrix, word, 0, part);
    const Rows<kTiles, T> rows(x + first * stride, stride);
    Sums z[kTiles];
    project_from<false>(matrix, word, part, rows.row, z);
#pragma unroll
    for (int n = 0; n < kTiles; n++)
      store_words(z[n], first + kTile * n, tokens,
                  [&](int32_t token, uint32_t bits) { store(token, word, bits); });
  }
}

// Floats of shared memory that encode_mlp needs.
inline constexpr int32_t kMlpFloats = kMlpTokens * (kMaxHidden + kFloatRowPad);

// One query head's MLP. x: [kMlpTokens, stride] in shared memory, of which `tokens` count; hidden:
// [kMlpFloats]. Begins with what other threads wrote before a barrier, ends with a barrier.
template <typename T, typename Store>
__device__ __forceinline__ void encode_mlp(const MlpWeights& weights, int32_t head,
                                           int32_t head_dim, const T* x, int32_t stride,
                                           int32_t tokens, float* hidden, Store store) {
  constexpr int kTiles = kMlpTokens / kTile, kSteps = 4;
  const int32_t hidden_stride = weights.hidden + kFloatRowPad;
  const Matrix first = head_matrix(weights.w1, head, head_dim, weights.hidden);
  const float* b1 = weights.b1 + int64_t{head} * weights.hidden;
#pragma unroll 1
  for (int32_t word = warp_id(); 32 * word < weights.hidden; word += warps()) {
    Weights<kSteps> part;
    load_weights<false>(first, word, 0, part);
    const Rows<kTiles, T> rows(x, stride);
    Sums sums[kTiles];
    project_from<false>(first, word, part, rows.row, sums);
    const int32_t column = 32 * word + 4 * lane_group();
    if (column >= weights.hidden) continue;
#pragma unroll
    for (int n = 0; n < kTiles; n++) {
#pragma unroll
      for (int t = 0; t < 2; t++) {
        const int32_t token = kTile * n + 2 * lane_column() + t;
        float y[4];
#pragma unroll
        for (int i = 0; i < 4; i++) {
          const float s = sums[n].at(t, i) + b1[column + i];
          y[i] = __fdiv_rn(s, 1.f + expf(-s));
          if (weights.hidden == head_dim) y[i] += widen(x[token * stride + column + i]);
        }
        *reinterpret_cast<float4*>(hidden + token * hidden_stride + column) =
            make_float4(y[0], y[1], y[2], y[3]);
      }
    }
  }
  __syncthreads();
  const Matrix second = head_matrix(weights.w2, head, weights.hidden, weights.bits);
  const float* b2 = weights.b2 + int64_t{head} * weights.bits;
#pragma unroll 1
  for (int32_t word = warp_id(); 32 * word < weights.bits; word += warps()) {
    Weights<kSteps> part;
    load_weights<false>(second, word, 0, part);
    const Rows<kTiles, float> rows(hidden, hidden_stride);
    Sums z[kTiles];
    project_from<false>(second, word, part, rows.row, z);
    const int32_t column = 32 * word + 4 * lane_group();
#pragma unroll
    for (int n = 0; n < kTiles; n++) {
#pragma unroll
      for (int i = 0; i < 4; i++) {
#pragma unroll
        for (int t = 0; t < 2; t++) {
          const int32_t token = kTile * n + 2 * lane_column() + t;
          float& value = z[n].half[i / 2][i % 2 * 2 + t];
          value += b2[column + i];
          if (weights.bits == weights.hidden) value += hidden[token * hidden_stride + column + i];
        }
      }
      store_words(z[n], kTile * n, tokens,
                  [&](int32_t token, uint32_t bits) { store(token, word, bits); });
    }
  }
  __syncthreads();
}

// Codes of a KV head's keys in one plane: x [64, stride] in shared memory, of which `tokens` count.
// store(token, word index, word). Uniform over the block; the keys must be behind a barrier.
template <typename T, typename Store>
__device__ __forceinline__ void encode_keys(const LayerEncoder& encoder, int32_t kv_head,
                                            int32_t group, int32_t head_dim, const T* x,
                                            int32_t stride, int32_t tokens, float* hidden,
                                            Store store) {
  if (encoder.kind == kLinearAsym) {
    encode_linear_keys(encoder.linear, kv_head, head_dim, x, stride, tokens, store);
  } else if (encoder.kind == kMlp) {
    const int32_t words = encoder.mlp.bits / 32;
#pragma unroll 1
    for (int32_t first = 0; first < tokens; first += kMlpTokens)
#pragma unroll 1
      for (int32_t g = 0; g < group; g++)
        encode_mlp(encoder.mlp, kv_head * group + g, head_dim, x + first * stride, stride,
                   tokens - first < kMlpTokens ? tokens - first : kMlpTokens, hidden,
                   [&](int32_t token, int32_t word, uint32_t bits) {
                     store(first + token, g * words + word, bits);
                   });
  }
}

}  // namespace spotlight::gpu
