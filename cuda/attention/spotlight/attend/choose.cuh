// Which tokens one query and virtual head selects, and which of its blocks a piece of work reads.
// Pieces are cut by what they read, not by position: a block costs its selected tokens and one more
// (its summary, and the look at it), and a piece takes the blocks that start in its share of that
// sum. Selected tokens lie in clusters; cut by position, the fullest piece would take several times
// the time of the others.
#pragma once

#include "attention/gpu/pieces.cuh"

namespace spotlight::gpu {

// Bits of block `block` for positions [from, to), as block_mask of select.h.
__device__ inline uint64_t mask_of(int32_t block, int32_t from, int32_t to) {
  const int32_t low = min(max(from - block * kBlockSize, 0), kBlockSize);
  const int32_t high = min(max(to - block * kBlockSize, 0), kBlockSize);
  return low >= high ? 0 : (~0ull >> (kBlockSize - (high - low))) << low;
}

// Tokens of blocks [first, last) that are selected whatever they score.
__device__ inline int32_t forced_in(const Query& query, int32_t first, int32_t last) {
  const int32_t from = first * kBlockSize, to = min(last * kBlockSize, query.context);
  const int32_t sink = max(min(to, query.sink) - from, 0);
  const int32_t recent = max(to - max(from, query.context - query.recent), 0);
  return sink + recent;
}

// What every thread knows about the choice of a query and virtual head. Candidates above
// `threshold` are selected, and of those equal to it all but the `skip` oldest.
struct Choice {
  int32_t threshold, skip;
};

// Blocks that a piece has to look at, and the sums over the blocks before them.
struct Window {
  int32_t first, last;
  int32_t cost, equal;
};

// at_least: [histogram()] of the unit. wanted > 0. shared: memory of the CTA.
template <int32_t kThreads>
__device__ inline Choice find_choice(const uint32_t* at_least, int32_t bins, int32_t wanted,
                                     Choice* shared) {
  constexpr int32_t kEach = 8;  // bins of a thread, loaded at once
  for (int32_t base = 0; base < bins; base += kThreads * kEach) {
    const int32_t first = base + static_cast<int32_t>(threadIdx.x) * kEach;
    uint32_t counts[kEach + 1] = {};
    if (first < bins) {
      const uint4 low = __ldcg(reinterpret_cast<const uint4*>(at_least + first));
      uint4 high{};
      // Whole 16 bytes up to the counter after the last bin, which is 0, as are those not there.
      if (first + 4 <= bins) high = __ldcg(reinterpret_cast<const uint4*>(at_least + first + 4));
      if (first + 8 <= bins) counts[8] = __ldcg(at_least + first + 8);
      counts[0] = low.x, counts[1] = low.y, counts[2] = low.z, counts[3] = low.w;
      counts[4] = high.x, counts[5] = high.y, counts[6] = high.z, counts[7] = high.w;
    }
#pragma unroll
    for (int32_t i = 0; i < kEach; i++) {
      const auto here = static_cast<int32_t>(counts[i]), next = static_cast<int32_t>(counts[i + 1]);
      if (here >= wanted && next < wanted) *shared = {first + i, here - wanted};
    }
  }
  __syncthreads();
  return *shared;
}

// The window of the piece that takes [from, to) of the cost, by the histograms of the score
// kernel's stretches.
template <int32_t kThreads>
__device__ inline Window find_window(const Workspace& workspace, const Query& query,
                                     const QueryShare& share, const Piece& piece, int32_t blocks,
                                     const Choice& choice, int32_t from, int32_t to,
                                     int32_t* scratch, Window* shared) {
  const int32_t count = share.score_pieces * share.stretches;
  if (count <= 1 || piece.parts == 1) return {0, blocks, 0, 0};
  const int32_t counters = workspace.shape.histogram();
  const int64_t slot =
      stretch_slot(share, workspace.shape.virtual_heads(), piece.head * share.score_pieces);
  int32_t equal_before = 0, cost_before = 0;
  for (int32_t base = 0; base < count; base += kThreads) {
    const int32_t at = base + static_cast<int32_t>(threadIdx.x);
    int32_t first = 0, last = 0, above = 0, equal = 0;
    if (at < count) {
      const uint32_t* at_least = workspace.at_least_of + (slot + at) * counters;
      above = static_cast<int32_t>(__ldcg(at_least + choice.threshold + 1));
      equal = static_cast<int32_t>(__ldcg(at_least + choice.threshold)) - above;
      const int32_t part = divide(at, share.stretches);
      const int32_t end = part_start(blocks, part + 1, share.score_pieces);
      first = part_start(blocks, part, share.score_pieces) +
              (at - part * share.stretches) * share.stretch;
      last = min(first + share.stretch, end);
      first = min(first, end);
    }
    int32_t all_equal, all_cost;
    const int32_t equal_at = equal_before + sum_before<kThreads>(equal, scratch, &all_equal);
    const int32_t skipped = min(max(choice.skip - equal_at, 0), equal);
    const int32_t cost =
        at < count ? above + equal - skipped + forced_in(query, first, last) + last - first : 0;
    const int32_t cost_at = cost_before + sum_before<kThreads>(cost, scratch, &all_cost);
    if (at < count) {
      // An empty stretch behind the last block of a piece costs nothing and is nobody's.
      if (cost_at <= from && from < cost_at + cost) {
        shared->first = first;
        shared->cost = cost_at;
        shared->equal = equal_at;
      }
      if (cost_at < to && to <= cost_at + cost) shared->last = last;
      if (at == count - 1 && to > cost_at + cost) shared->last = blocks;
    }
    equal_before += all_equal;
    cost_before += all_cost;
  }
  __syncthreads();
  return *shared;
}

// Which tokens of a warp's 32 blocks score `least` or more: lane i is told of the i-th block.
// scores: in shared memory as in the workspace; lanes whose block is not there ignore what they are
// told.
__device__ inline uint64_t at_least_in(const uint32_t* scores, int32_t least) {
  const int32_t lane = threadIdx.x % 32;
  uint32_t low = 0, high = 0;
#pragma unroll 8
  for (int32_t i = 0; i < 32; i++) {
    const uint32_t pair = scores[i * 32 + lane];
    const uint32_t of_low = __ballot_sync(~0u, static_cast<int32_t>(pair & 0xffff) >= least);
    const uint32_t of_high = __ballot_sync(~0u, static_cast<int32_t>(pair >> 16) >= least);
    if (lane == i) low = of_low, high = of_high;
  }
  return static_cast<uint64_t>(high) << 32 | low;
}

}  // namespace spotlight::gpu
