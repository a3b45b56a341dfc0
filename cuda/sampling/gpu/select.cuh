// Where top-k and top-p cut a row: the last token of the shortest prefix, in the order of tokens,
// that holds k tokens, or the share top_p of the mass. A radix selection, no sort: six levels of
// digits, from the distance below the maximum over the exact key to the id, each a histogram of
// integers (so that no order of additions matters) and a scan for the digit in which the goal is
// reached. One block a row; after the first digit few tokens are left, and they move to shared
// memory when they fit.
#pragma once

#include "sampling/gpu/order.cuh"

namespace spotlight::gpu {

inline constexpr int kSelectThreads = 1024;
inline constexpr int kBins = 2048;
inline constexpr int kListed = 3072;
inline constexpr int kLevels = 6;

struct SelectMemory {
  uint32_t low[kBins], high[kBins];  // of a bin's mass
  uint64_t listed[kListed];          // places
  uint64_t warps[kSelectThreads / 32];
  uint64_t before, total;
  int32_t list_size, digit;
};

struct SelectedRow {
  float inverse, max;
};

// Digit `level` of a token. Every digit ascends in the order, given the digits before it.
__device__ inline int32_t digit_of(int level, float distance, uint64_t place) {
  const auto key = static_cast<uint32_t>(place >> 32), id = static_cast<uint32_t>(place);
  switch (level) {
    case 0:
      return static_cast<int32_t>(fminf(exact::mul(distance, 16.f), kBins - 1.f));
    case 1:
      return static_cast<int32_t>(key >> 21);
    case 2:
      return static_cast<int32_t>(key >> 10 & 2047);
    case 3:
      return static_cast<int32_t>(key & 1023);
    case 4:
      return static_cast<int32_t>(id >> 8);
    default:
      return static_cast<int32_t>(id & 255);
  }
}

// Adds to a bin of 64 bits in halves: whoever carries the low half over says so.
__device__ inline void add_mass(SelectMemory& memory, int32_t bin, uint64_t mass) {
  const auto low = static_cast<uint32_t>(mass);
  auto high = static_cast<uint32_t>(mass >> 32);
  if (low != 0 && atomicAdd(&memory.low[bin], low) + low < low) high++;
  if (high != 0) atomicAdd(&memory.high[bin], high);
}

// Sums up to and including this thread's, over the block.
__device__ inline uint64_t block_scan(SelectMemory& memory, uint64_t own) {
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  for (int offset = 1; offset < 32; offset *= 2) {
    const uint64_t other = __shfl_up_sync(0xffffffffu, own, offset);
    if (lane >= offset) own += other;
  }
  if (lane == 31) memory.warps[warp] = own;
  __syncthreads();
  uint64_t before = 0;
  for (int i = 0; i < warp; i++) before += memory.warps[i];
  __syncthreads();
  return before + own;
}

// Goal: how much a prefix needs, of tokens or of mass.
struct CountGoal {
  uint64_t k;
  __device__ uint64_t measure(float) const { return 1; }
  __device__ bool reached(uint64_t sum, uint64_t) const { return sum >= k; }
};
struct MassGoal {
  float top_p;
  __device__ uint64_t measure(float below) const {
    return exact::mass_of(exact::exp_straight(below));
  }
  __device__ bool reached(uint64_t sum, uint64_t total) const {
    return exact::reaches(sum, top_p, total);
  }
};

// The place of the last token of the prefix, among those at `cut` or before; `cut` itself when the
// goal is out of reach. All threads of the block call it and get the answer.
template <typename T, typename Goal>
__device__ uint64_t select(const Row<T>& row, int32_t vocab, SelectedRow scaled, Goal goal,
                           uint64_t cut, SelectMemory& memory) {
  int32_t digits[kLevels];
  bool listed = false;
  if (threadIdx.x == 0) memory.before = 0, memory.list_size = 0;
  for (int level = 0; level < kLevels; level++) {
    for (int bin = threadIdx.x; bin < kBins; bin += blockDim.x)
      memory.low[bin] = memory.high[bin] = 0;
    __syncthreads();
    const auto visit = [&](float x, uint64_t place) {
      const float below = exact::add(x, -scaled.max);
      for (int i = 0; i < level; i++)
        if (digit_of(i, -below, place) != digits[i]) return;
      if (level == 1) {
        const int32_t at = atomicAdd(&memory.list_size, 1);
        if (at < kListed) memory.listed[at] = place;
      }
      add_mass(memory, digit_of(level, -below, place), goal.measure(below));
    };
    if (listed) {
      for (int32_t i = threadIdx.x; i < memory.list_size; i += blockDim.x) {
        const uint64_t place = memory.listed[i];
        visit(float_of_key(~static_cast<uint32_t>(place >> 32)), place);
      }
    } else {
      row.for_each(0, vocab, [&](int32_t i, float logit) {
        const float x = exact::mul(logit, scaled.inverse);
        const uint64_t place = place_of(x, i);
        if (place <= cut) visit(x, place);
      });
    }
    __syncthreads();
    listed = level >= 1 && memory.list_size <= kListed;

    // Two bins a thread; exactly one bin has the goal reached with it and not before it.
    const int bin = 2 * threadIdx.x;
    uint64_t mass[2];
    for (int i = 0; i < 2; i++)
      mass[i] = static_cast<uint64_t>(memory.high[bin + i]) << 32 | memory.low[bin + i];
    const uint64_t through = block_scan(memory, mass[0] + mass[1]);
    if (level == 0) {
      if (threadIdx.x == blockDim.x - 1) memory.total = through, memory.digit = -1;
      __syncthreads();
    }
    const uint64_t base = memory.before, total = memory.total;
    __syncthreads();
    uint64_t sum = base + through - mass[0] - mass[1];
    for (int i = 0; i < 2; i++) {
      if (mass[i] != 0 && goal.reached(sum + mass[i], total) &&
          (sum == 0 || !goal.reached(sum, total))) {
        memory.digit = bin + i;
        memory.before = sum;
      }
      sum += mass[i];
    }
    __syncthreads();
    digits[level] = memory.digit;
    if (digits[level] < 0) return cut;
  }
  __syncthreads();
  // The token itself: its key from digits 1 to 3, its id from 4 and 5.
  const uint32_t key = static_cast<uint32_t>(digits[1]) << 21 |
                       static_cast<uint32_t>(digits[2]) << 10 | static_cast<uint32_t>(digits[3]);
  const uint32_t id = static_cast<uint32_t>(digits[4]) << 8 | static_cast<uint32_t>(digits[5]);
  return static_cast<uint64_t>(key) << 32 | id;
}

// Step 5 of sampling.h for one row a block.
template <typename T>
__global__ void __launch_bounds__(kSelectThreads) cut_rows(Draw<T> draw) {
  extern __shared__ __align__(16) unsigned char shared[];
  SelectMemory& memory = *reinterpret_cast<SelectMemory*>(shared);
  const int32_t index = blockIdx.x;
  const DrawRow& params = draw.rows[index];
  const Outlook outlook = gpu::outlook(draw, index);
  if (outlook.ending != Ending::kDraw) return;
  const Row<T> row = draw.row(index);
  const SelectedRow scaled{params.inverse, outlook.max};
  uint64_t cut = kKeepAll;
  if (params.has_min_p != 0) cut = place_of(exact::add(outlook.max, params.log_min_p), 0x7fffffff);
  if (params.top_k > 0) {
    const uint64_t own = select(row, draw.vocab, scaled,
                                CountGoal{static_cast<uint64_t>(params.top_k)}, kKeepAll, memory);
    cut = own < cut ? own : cut;
  }
  if (params.top_p < 1) cut = select(row, draw.vocab, scaled, MassGoal{params.top_p}, cut, memory);
  if (threadIdx.x == 0) draw.cuts[index] = cut;
}

}  // namespace spotlight::gpu
