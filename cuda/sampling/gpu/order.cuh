// A row of logits as the kernels read it, and the order of tokens (logit descending, id ascending)
// as integers.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>

#include "sampling/exact.h"
#include "sampling/gpu/draw_rows.h"

namespace spotlight::gpu {

inline constexpr int kRun = 1024;        // of softmax.cc's sums
inline constexpr int kChunk = 8 * kRun;  // logits of one block
inline constexpr int kThreads = 256;

__device__ inline float to_float(float x) { return x; }
__device__ inline float to_float(__nv_bfloat16 x) { return __bfloat162float(x); }
__device__ inline float to_float(__half x) { return __half2float(x); }

// Grows with x; -0 and 0 are one. What is above that of infinity is a NaN.
__device__ inline uint32_t key_of(float x) {
  const uint32_t bits = exact::bits_of(exact::add(x, 0.f));
  return (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;
}
__device__ inline float float_of_key(uint32_t key) {
  return exact::float_of((key & 0x80000000u) != 0 ? key & 0x7fffffffu : ~key);
}

// Greatest logit and the lowest id that has it, in one number; all ones: there is a NaN.
inline constexpr uint64_t kNan = ~uint64_t{0};
__device__ inline uint64_t best_of(float x, int32_t id) {
  if (x != x) return kNan;
  return static_cast<uint64_t>(key_of(x)) << 32 | (0xffffffffu - static_cast<uint32_t>(id));
}

// Calls f(i, logit i) for begin <= i < end, shared out among the block's threads; begin is a
// multiple of 8. Loads are of 16 bytes where the row's place allows.
template <typename T, typename F>
__device__ inline void for_each_logit(const T* row, int32_t begin, int32_t end, F f) {
  constexpr int kWide = 16 / sizeof(T);
  int32_t from = begin;
  if (reinterpret_cast<uintptr_t>(row) % 16 == 0) {
    const int32_t vectors = (end - begin) / kWide;
    for (int32_t v = threadIdx.x; v < vectors; v += blockDim.x) {
      const int32_t i = begin + v * kWide;
      alignas(16) T values[kWide];
      *reinterpret_cast<uint4*>(values) = *reinterpret_cast<const uint4*>(row + i);
#pragma unroll
      for (int j = 0; j < kWide; j++) f(i + j, to_float(values[j]));
    }
    from = begin + vectors * kWide;
  }
  for (int32_t i = from + static_cast<int32_t>(threadIdx.x); i < end; i += blockDim.x)
    f(i, to_float(row[i]));
}

// A row's logits after its edits: its own f32 copy when it has any.
template <typename T>
struct Row {
  const T* raw;
  const float* edited;  // null: raw
  template <typename F>
  __device__ void for_each(int32_t begin, int32_t end, F f) const {
    if (edited != nullptr)
      for_each_logit(edited, begin, end, f);
    else
      for_each_logit(raw, begin, end, f);
  }
};

// What a step's kernels share.
template <typename T>
struct Draw {
  const T* logits;
  int64_t stride;
  int32_t vocab, chunks, runs;
  const DrawRow* rows;
  const LogitEdit* edits;
  float* edited;          // [rows, edited_stride]
  int64_t edited_stride;  // vocab up to a multiple of 4
  uint64_t* best;         // [rows, chunks]
  uint64_t* cuts;         // [rows] inverted key of the last kept token << 32 | its id
  double* run_sums;       // [rows, runs]

  __device__ Row<T> row(int32_t index) const {
    const DrawRow& own = rows[index];
    return {logits + index * stride,
            own.edit_begin < own.edit_end ? edited + index * edited_stride : nullptr};
  }
};

// Tokens are kept while (inverted key, id) is at most the cut's: both ascend in the order.
__device__ inline uint64_t place_of(float x, int32_t id) {
  return static_cast<uint64_t>(~key_of(x)) << 32 | static_cast<uint32_t>(id);
}
inline constexpr uint64_t kKeepAll = ~uint64_t{0};

// Greatest over the block of up to 1024 threads, known to every thread.
__device__ inline uint64_t block_max(uint64_t value) {
  __shared__ uint64_t warps[32];
  for (int offset = 16; offset > 0; offset /= 2) {
    const uint64_t other = __shfl_xor_sync(0xffffffffu, value, offset);
    value = other > value ? other : value;
  }
  __syncthreads();
  if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = value;
  __syncthreads();
  for (int i = 0; i < static_cast<int>(blockDim.x / 32); i++)
    value = warps[i] > value ? warps[i] : value;
  return value;
}

// How a row ends: in nothing, in its greatest logit, or in a draw over logits scaled by `inverse`
// below `max`.
enum class Ending { kNothing, kGreatest, kDraw };
struct Outlook {
  Ending ending;
  int32_t greatest;
  float max;
};
template <typename T>
__device__ inline Outlook outlook(const Draw<T>& draw, int32_t index) {
  const DrawRow& row = draw.rows[index];
  if (row.seat < 0) return {Ending::kNothing, -1, 0.f};
  uint64_t best = 0;
  for (int32_t i = threadIdx.x; i < draw.chunks; i += blockDim.x) {
    const uint64_t own = draw.best[static_cast<int64_t>(index) * draw.chunks + i];
    best = own > best ? own : best;
  }
  best = block_max(best);
  const float greatest = float_of_key(static_cast<uint32_t>(best >> 32));
  const auto id = static_cast<int32_t>(0xffffffffu - static_cast<uint32_t>(best));
  if (best == kNan || !isfinite(greatest)) return {Ending::kNothing, -1, 0.f};
  const float max = exact::mul(greatest, row.inverse);
  if (row.greedy != 0 || !isfinite(max)) return {Ending::kGreatest, id, 0.f};
  return {Ending::kDraw, id, max};
}

}  // namespace spotlight::gpu
