// Projections of codes on tensor cores: z = x W for 32 columns of W (one word of a code) and any
// number of tokens. Weights are the left operand, so that a decode step's few tokens fill the
// narrow side. Every kernel that makes codes makes them here, in one order of one instruction: a
// rehash gives the bits that append gave.
//
// The two operands may agree on any order of the inner dimension and the columns, so both are what
// a lane can load in one piece. Lane (g, c) = (lane / 4, lane % 4) holds of step s the inner
// positions 16 s + 4 c + {0 .. 3}: of the weights columns 4 g + {0 .. 3}, of tile n token 8 n + g.
// Its sums are those of columns 4 g + {0 .. 3} and tokens 8 n + 2 c + {0, 1}.
#pragma once

#include "attention/spotlight/encode/number.cuh"
#include "attention/spotlight/encode/ptx.cuh"

namespace spotlight::gpu {

inline constexpr int32_t kWarp = 32;
inline constexpr int32_t kStep = 16;  // inner positions of one product
inline constexpr int32_t kTile = 8;   // tokens of one product
// Elements after a row of a tile in shared memory, by which no two of a warp's accesses meet in a
// bank.
inline constexpr int32_t kRowPad = 16;
inline constexpr int32_t kFloatRowPad = 16;

__device__ inline int32_t lane_id() { return static_cast<int32_t>(threadIdx.x % kWarp); }
__device__ inline int32_t lane_group() { return static_cast<int32_t>(threadIdx.x % kWarp / 4); }
__device__ inline int32_t lane_column() { return static_cast<int32_t>(threadIdx.x % 4); }

// One head's weights.
struct Matrix {
  const __nv_bfloat16* data;  // [rows, columns], 8-byte aligned
  int32_t rows, columns;      // both multiples of 16
};

__device__ inline Matrix head_matrix(const void* weights, int32_t head, int32_t rows,
                                     int32_t columns) {
  return {static_cast<const __nv_bfloat16*>(weights) + int64_t{head} * rows * columns, rows,
          columns};
}

// A lane's share of kSteps steps of 32 columns. All its loads are in flight at once.
template <int kSteps>
struct Weights {
  uint2 row[kSteps][4];
};

// kColumns: matrix.columns where it is known, so that an address is an offset in its instruction;
// such a call covers no step beyond the last.
template <bool kStreamed, int kColumns, int kSteps>
__device__ __forceinline__ void load_steps(const Matrix& matrix, int32_t word, int32_t step,
                                           Weights<kSteps>& weights) {
  constexpr bool kKnown = kColumns > 0;
  const int32_t columns = kKnown ? kColumns : matrix.columns;
  const int32_t column = 32 * word + 4 * lane_group();
  const int32_t left = column < columns ? matrix.rows / kStep - step : 0;
  const __nv_bfloat16* from = matrix.data + (kStep * step + 4 * lane_column()) * columns + column;
#pragma unroll
  for (int s = 0; s < kSteps; s++) {
#pragma unroll
    for (int i = 0; i < 4; i++) {
      uint2 loaded = {0, 0};
      if (kKnown || s < left) {
        const __nv_bfloat16* at = from + (kStep * s + i) * columns;
        loaded = kStreamed ? ptx::load_streamed(at) : __ldg(reinterpret_cast<const uint2*>(at));
      }
      weights.row[s][i] = loaded;
    }
  }
}

// The steps from `step` on, none beyond the last. kStreamed: nobody on this multiprocessor reads
// them again.
template <bool kStreamed, int kSteps>
__device__ __forceinline__ void load_weights(const Matrix& matrix, int32_t word, int32_t step,
                                             Weights<kSteps>& weights) {
  if (matrix.columns == 128 && matrix.rows >= kStep * (step + kSteps))
    load_steps<kStreamed, 128>(matrix, word, step, weights);
  else
    load_steps<kStreamed, 0>(matrix, word, step, weights);
}

// A lane's share of one step of one token tile, as bf16. What has more bits than bf16 comes as two
// whose sum it is: binary16 exactly, fp32 to 16 bits.
template <typename X>
struct Operand {
  static constexpr bool kSplit = true;
  uint2 high, low;
};
template <>
struct Operand<__nv_bfloat16> {
  static constexpr bool kSplit = false;
  uint2 high;
};

__device__ inline uint32_t pack_bf16(__nv_bfloat16 first, __nv_bfloat16 second) {
  return static_cast<uint32_t>(__bfloat16_as_ushort(first)) |
         static_cast<uint32_t>(__bfloat16_as_ushort(second)) << 16;
}

template <typename X>
__device__ inline Operand<X> split(const float (&x)[4]) {
  __nv_bfloat16 high[4], low[4];
#pragma unroll
  for (int i = 0; i < 4; i++) {
    high[i] = __float2bfloat16_rn(x[i]);
    low[i] = __float2bfloat16_rn(__fsub_rn(x[i], __bfloat162float(high[i])));
  }
  return {{pack_bf16(high[0], high[1]), pack_bf16(high[2], high[3])},
          {pack_bf16(low[0], low[1]), pack_bf16(low[2], low[3])}};
}

__device__ inline Operand<__nv_bfloat16> load_operand(const __nv_bfloat16* x) {
  return {*reinterpret_cast<const uint2*>(x)};
}
__device__ inline Operand<__half> load_operand(const __half* x) {
  union {
    uint2 bits;
    __half value[4];
  } loaded{*reinterpret_cast<const uint2*>(x)};
  const float wide[4] = {widen(loaded.value[0]), widen(loaded.value[1]), widen(loaded.value[2]),
                         widen(loaded.value[3])};
  return split<__half>(wide);
}
__device__ inline Operand<float> load_operand(const float* x) {
  const float4 loaded = *reinterpret_cast<const float4*>(x);
  const float wide[4] = {loaded.x, loaded.y, loaded.z, loaded.w};
  return split<float>(wide);
}

// What a lane holds of one token tile's sums: of tokens 2 c + {0, 1} and columns 4 g + {0 .. 3}.
struct Sums {
  float half[2][4] = {};
  __device__ float at(int token, int column) const {
    return half[column / 2][column % 2 * 2 + token];
  }
};

// Adds the products of the steps from `step` on. x: a lane's row of each tile, from its position
// 4 c on.
template <int kSteps, int kTiles, typename X>
__device__ __forceinline__ void multiply(const Weights<kSteps>& weights,
                                         const X* const (&x)[kTiles], int32_t step, int32_t steps,
                                         Sums (&sums)[kTiles]) {
#pragma unroll
  for (int s = 0; s < kSteps; s++) {
    if (step + s >= steps) break;
    const uint2(&row)[4] = weights.row[s];
    const uint32_t first[4] = {
        __byte_perm(row[0].x, row[1].x, 0x5410), __byte_perm(row[0].x, row[1].x, 0x7632),
        __byte_perm(row[2].x, row[3].x, 0x5410), __byte_perm(row[2].x, row[3].x, 0x7632)};
    const uint32_t second[4] = {
        __byte_perm(row[0].y, row[1].y, 0x5410), __byte_perm(row[0].y, row[1].y, 0x7632),
        __byte_perm(row[2].y, row[3].y, 0x5410), __byte_perm(row[2].y, row[3].y, 0x7632)};
#pragma unroll
    for (int n = 0; n < kTiles; n++) {
      const Operand<X> operand = load_operand(x[n] + kStep * (step + s));
      ptx::mma_bf16(sums[n].half[0], first, operand.high);
      ptx::mma_bf16(sums[n].half[1], second, operand.high);
      if constexpr (Operand<X>::kSplit) {
        ptx::mma_bf16(sums[n].half[0], first, operand.low);
        ptx::mma_bf16(sums[n].half[1], second, operand.low);
      }
    }
  }
}

// The steps from `step` on, whose first kSteps are in `weights`.
template <bool kStreamed, int kSteps, int kTiles, typename X>
__device__ __forceinline__ void project_from(const Matrix& matrix, int32_t word,
                                             Weights<kSteps>& weights, const X* const (&x)[kTiles],
                                             Sums (&sums)[kTiles]) {
  const int32_t steps = matrix.rows / kStep;
  multiply(weights, x, 0, steps, sums);
#pragma unroll 1
  for (int32_t step = kSteps; step < steps; step += kSteps) {
    load_weights<kStreamed>(matrix, word, step, weights);
    multiply(weights, x, step, steps, sums);
  }
}

// A lane's row of each tile of a [8 kTiles, stride] array.
template <int kTiles, typename X>
struct Rows {
  const X* row[kTiles];
  __device__ Rows(const X* x, int32_t stride) {
#pragma unroll
    for (int n = 0; n < kTiles; n++)
      row[n] = x + (kTile * n + lane_group()) * stride + 4 * lane_column();
  }
};

// Sign words of tokens 2 c and 2 c + 1, the same in all lanes of one c.
__device__ inline uint2 pack_signs(const Sums& z) {
  uint32_t word[2];
#pragma unroll
  for (int t = 0; t < 2; t++) {
    uint32_t nibble = 0;
#pragma unroll
    for (int i = 0; i < 4; i++) nibble |= (z.at(t, i) > 0.f ? 1u : 0u) << i;
    word[t] = nibble << (4 * lane_group());
#pragma unroll
    for (int o = 4; o < kWarp; o *= 2) word[t] |= __shfl_xor_sync(0xffffffffu, word[t], o);
  }
  return {word[0], word[1]};
}

}  // namespace spotlight::gpu
