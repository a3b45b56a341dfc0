// Flash attention of one warp over gathered rows: tiles of 16 rows of K and V, copied
// asynchronously to shared memory while the tile before is in the tensor cores. The query heads of
// one selection are the 16 rows of the products, so a gathered row serves them all.
#pragma once

#include <cmath>

#include "attention/spotlight/attend/mma.cuh"

namespace spotlight::gpu {

inline constexpr int32_t kMostRows = 16;  // query heads; also rows of a tile

// A row to read, in 32 bits: a token (unit * 64 + slot), or a block's summary with how many tokens
// it stands for. A unit is a block's KV head, block * kv_heads + head.
inline constexpr int32_t kUnitBits = 25;
__device__ inline uint32_t token_row(uint32_t unit, int32_t slot) {
  return unit * static_cast<uint32_t>(kBlockSize) + static_cast<uint32_t>(slot);
}
__device__ inline uint32_t summary_row(uint32_t unit, int32_t tokens) {
  return 1u << 31 | static_cast<uint32_t>(tokens - 1) << kUnitBits | unit;
}

template <typename T, int kDim>
struct RowTile {
  static constexpr int kWarps = 4;
  static constexpr int kStages = kDim == 256 ? 2 : 3;
  static constexpr int kPieces = kDim / 8;      // 16-byte pieces of a row
  static constexpr int kElements = 16 * kDim;   // of one tile of K or V
  static constexpr int kStage = 2 * kElements;  // K, then V
  static constexpr int kBytes = kWarps * kStages * kStage * 2;
  // Where a piece of a row lies, so that eight rows at one piece lie in eight banks.
  __device__ static int place(int row, int piece) {
    const int turned = kDim == 96 ? piece ^ (row >> 1 & 3) : piece ^ (row & 7);
    return row * kDim + turned * 8;
  }
};

// The state of one warp: lane i holds heads i / 4 and i / 4 + 8. sum is of this lane's share.
template <typename T, int kDim>
struct RowState {
  float max[2], sum[2], acc[kDim / 8][4];

  __device__ void reset() {
    for (int i = 0; i < 2; i++) max[i] = -INFINITY, sum[i] = 0.0f;
#pragma unroll
    for (int i = 0; i < kDim / 8; i++)
#pragma unroll
      for (int j = 0; j < 4; j++) acc[i][j] = 0.0f;
  }
};

template <typename T, int kDim>
__device__ inline void copy_tile(const Cache<T>& cache, const uint32_t* rows, int32_t count,
                                 int32_t first, T* stage) {
  using Tile = RowTile<T, kDim>;
  const int32_t lane = threadIdx.x % 32;
#pragma unroll
  for (int i = 0; i < 16 * Tile::kPieces / 32; i++) {
    const int at = i * 32 + lane;
    const int row = at / Tile::kPieces, piece = at % Tile::kPieces;
    const bool valid = first + row < count;
    const uint32_t which = rows[valid ? first + row : first];
    const bool summary = which >> 31;
    const int64_t offset =
        static_cast<int64_t>(summary ? which & ((1u << kUnitBits) - 1) : which) * kDim + piece * 8;
    T* to = stage + Tile::place(row, piece);
    ptx::copy_async(to, (summary ? cache.mean_k : cache.k) + offset, valid);
    ptx::copy_async(to + Tile::kElements, (summary ? cache.mean_v : cache.v) + offset, valid);
  }
}

// One tile into the state. q: [16, kDim] in shared memory, placed as a tile. scale: of a product
// into a logit to the base of 2.
template <typename T, int kDim>
__device__ inline void add_tile(RowState<T, kDim>& state, const T* q, const uint32_t* rows,
                                int32_t count, int32_t first, const T* stage, bool two_halves,
                                float scale) {
  using Tile = RowTile<T, kDim>;
  const int32_t lane = threadIdx.x % 32;
  const int matrix = lane / 8, within = lane % 8;
  float logit[2][4] = {};
#pragma unroll
  for (int k = 0; k < kDim / 16; k++) {
    uint32_t a[4], b[4];
    ptx::load_matrices(a, q + Tile::place(within + 8 * (matrix & 1), 2 * k + (matrix >> 1)));
    ptx::load_matrices(b, stage + Tile::place(within + 8 * (matrix >> 1), 2 * k + (matrix & 1)));
    ptx::mma<T>(logit[0], a, b[0], b[1]);
    ptx::mma<T>(logit[1], a, b[2], b[3]);
  }

  // What a row stands for adds to its logit; rows past the end count nothing.
  float bias = -INFINITY;
  if (first + lane % 16 < count) {
    const uint32_t which = rows[first + lane % 16];
    bias = which >> 31 ? log2f(static_cast<float>((which >> kUnitBits & 63) + 1)) : 0.0f;
  }
  float top[2] = {-INFINITY, -INFINITY};
#pragma unroll
  for (int n = 0; n < 2; n++)
#pragma unroll
    for (int i = 0; i < 2; i++) {
      const float of_row = __shfl_sync(~0u, bias, 8 * n + lane % 4 * 2 + i);
      logit[n][i] = logit[n][i] * scale + of_row;
      logit[n][2 + i] = logit[n][2 + i] * scale + of_row;
      top[0] = fmaxf(top[0], logit[n][i]);
      top[1] = fmaxf(top[1], logit[n][2 + i]);
    }
  float shrink[2];
#pragma unroll
  for (int half = 0; half < 2; half++) {
    top[half] = fmaxf(top[half], __shfl_xor_sync(~0u, top[half], 1));
    top[half] = fmaxf(top[half], __shfl_xor_sync(~0u, top[half], 2));
    top[half] = fmaxf(top[half], state.max[half]);
    shrink[half] = ptx::exp2(state.max[half] - top[half]);
    state.max[half] = top[half];
    state.sum[half] *= shrink[half];
  }
  if (__any_sync(~0u, shrink[0] != 1.0f || shrink[1] != 1.0f)) {
#pragma unroll
    for (int i = 0; i < kDim / 8; i++)
#pragma unroll
      for (int j = 0; j < 4; j++) state.acc[i][j] *= shrink[j / 2];
  }

  uint32_t p[4] = {};
#pragma unroll
  for (int half = 0; half < 2; half++) {
    if (half == 1 && !two_halves) break;
    float weight[2][2];
#pragma unroll
    for (int n = 0; n < 2; n++)
#pragma unroll
      for (int i = 0; i < 2; i++) {
        weight[n][i] = ptx::exp2(logit[n][2 * half + i] - top[half]);
        state.sum[half] += weight[n][i];
      }
    p[half] = ptx::pack<T>(weight[0][0], weight[0][1]);
    p[2 + half] = ptx::pack<T>(weight[1][0], weight[1][1]);
  }
  const T* values = stage + Tile::kElements;
#pragma unroll
  for (int n = 0; n < kDim / 16; n++) {
    uint32_t b[4];
    ptx::load_matrices_transposed(
        b, values + Tile::place(within + 8 * (matrix & 1), 2 * n + (matrix >> 1)));
    ptx::mma<T>(state.acc[2 * n], p, b[0], b[1]);
    ptx::mma<T>(state.acc[2 * n + 1], p, b[2], b[3]);
  }
}

// All tiles of a list that are this warp's: every kWarps-th. stages: this warp's shared memory.
template <typename T, int kDim>
__device__ inline void add_rows(RowState<T, kDim>& state, const Cache<T>& cache, const T* q,
                                const uint32_t* rows, int32_t count, T* stages, bool two_halves,
                                float scale) {
  using Tile = RowTile<T, kDim>;
  const int32_t warp = threadIdx.x / 32;
  const int32_t tiles = (count + 15) / 16;
  const auto copy = [&](int32_t tile, int32_t turn) {
    if (tile < tiles)
      copy_tile<T, kDim>(cache, rows, count, tile * 16,
                         stages + turn % Tile::kStages * Tile::kStage);
    ptx::commit_copies();
  };
  // The first turns only copy: one place that copies keeps the code small, which every launch has
  // to fetch anew.
  for (int32_t turn = 1 - Tile::kStages; warp + turn * Tile::kWarps < tiles; turn++) {
    copy(warp + (turn + Tile::kStages - 1) * Tile::kWarps, turn + Tile::kStages - 1);
    if (turn < 0) continue;
    ptx::wait_copies<Tile::kStages - 1>();
    __syncwarp();
    add_tile<T, kDim>(state, q, rows, count, (warp + turn * Tile::kWarps) * 16,
                      stages + turn % Tile::kStages * Tile::kStage, two_halves, scale);
    __syncwarp();
  }
  ptx::wait_copies<0>();
}

}  // namespace spotlight::gpu
