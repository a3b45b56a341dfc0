// How a CTA of a fixed grid finds its piece of the plan, and sums over the threads of a
// CTA.
#pragma once

#include "attention/gpu/retrieval.h"

namespace spotlight::gpu {

// a / b for 0 <= a < 2^24 and b > 0: in a tenth of the instructions that any number would take.
__device__ inline int32_t divide(int32_t a, int32_t b) {
  const auto guess = static_cast<int32_t>(__fdividef(static_cast<float>(a), static_cast<float>(b)));
  const int32_t rest = a - guess * b;
  return guess + (rest >= b) - (rest < 0);
}

// Piece `part` of `parts` of query `query` and virtual head `head`; `within`: its place among the
// pieces of the query and all its virtual heads.
struct Piece {
  int32_t query, head, part, parts;
  int32_t within, unit;
};

// member: the starts of the kernel's pieces. Called by all threads of a CTA.
template <int32_t QueryShare::*kStart, int32_t QueryShare::*kPieces>
__device__ inline Piece find_piece(const Queries& queries, int32_t heads, int32_t item) {
  // The last query whose pieces start at or before this one; those without any share their start
  // with the one after them.
  const int32_t at = divide(item, heads);
  int32_t before = 0;
  for (int32_t i = 0; i < queries.count; i += static_cast<int32_t>(blockDim.x)) {
    const int32_t mine = i + static_cast<int32_t>(threadIdx.x);
    const bool starts = mine < queries.count && queries.shares[mine].*kStart <= at;
    const int32_t found = __syncthreads_count(starts);
    before += found;
    if (found < static_cast<int32_t>(blockDim.x)) break;
  }
  Piece piece;
  piece.query = before - 1;
  const QueryShare& share = queries.shares[piece.query];
  piece.within = item - heads * share.*kStart;
  piece.parts = share.*kPieces;
  piece.head = divide(piece.within, piece.parts);
  piece.part = piece.within - piece.head * piece.parts;
  piece.unit = piece.query * heads + piece.head;
  return piece;
}

__device__ inline Piece find_score_piece(const Queries& queries, int32_t heads, int32_t item) {
  return find_piece<&QueryShare::score_start, &QueryShare::score_pieces>(queries, heads, item);
}
__device__ inline Piece find_attend_piece(const Queries& queries, int32_t heads, int32_t item) {
  return find_piece<&QueryShare::attend_start, &QueryShare::attend_pieces>(queries, heads, item);
}

// The first block of part `part` when `blocks` are cut into `parts`.
__device__ inline int32_t part_start(int32_t blocks, int32_t part, int32_t parts) {
  const int32_t each = divide(blocks, parts), left = blocks - each * parts;
  return each * part + min(part, left);
}

// The sum over the threads before this one; `total` that over all. scratch: [kThreads / 32] in
// shared memory. Called by all threads of a CTA.
template <int32_t kThreads>
__device__ inline int32_t sum_before(int32_t value, int32_t* scratch, int32_t* total) {
  const int32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  int32_t sum = value;
#pragma unroll
  for (int32_t step = 1; step < 32; step *= 2) {
    const int32_t other = __shfl_up_sync(~0u, sum, step);
    if (lane >= step) sum += other;
  }
  __syncthreads();  // the last sum's scratch has been read
  if (lane == 31) scratch[warp] = sum;
  __syncthreads();
  int32_t before = 0, all = 0;
#pragma unroll
  for (int32_t w = 0; w < kThreads / 32; w++) {
    const int32_t of_warp = scratch[w];
    if (w < warp) before += of_warp;
    all += of_warp;
  }
  *total = all;
  return before + sum - value;
}

}  // namespace spotlight::gpu
