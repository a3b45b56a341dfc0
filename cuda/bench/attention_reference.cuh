// What the GPU benchmark's answers are held to: attention in fp64 by the plainest kernel there is,
// over all tokens or over the exact top-k of the codes, which the CPU's selection picks from scores
// counted bit by bit. Nothing of the kernels measured is used but the query codes they made.
#pragma once

#include <cmath>

#include "attention/spotlight/select/select.h"
#include "bench/attention_world.cuh"

namespace spotlight::bench {
namespace detail {

inline constexpr int32_t kParts = 64, kPartWarps = 8;

// Sum of 4-bit query values times +-1 of each key's code: one thread a token, grid.y a KV head.
// planes: sign, then magnitude bits of weight 1, 2, 4, kCodeWords words each.
__global__ void reference_scores(gpu::Cache<Half> cache, const int32_t* table, int32_t context,
                                 const uint32_t* query_codes, int16_t* scores) {
  const int32_t t = blockIdx.x * blockDim.x + threadIdx.x, head = blockIdx.y;
  if (t >= context) return;
  const uint32_t* planes = query_codes + head * gpu::kLinearAsymPlanes * kCodeWords;
  const uint32_t* code =
      cache.codes[0] +
      ((int64_t{table[t / kBlockSize]} * cache.kv_heads + head) * kBlockSize + t % kBlockSize) *
          kCodeWords;
  int32_t sum = 0;
  for (int32_t bit = 0; bit < kCodeBits; bit++) {
    const int32_t word = bit / 32, at = bit % 32;
    const auto plane = [&](int32_t p) { return planes[p * kCodeWords + word] >> at & 1; };
    const int32_t magnitude = static_cast<int32_t>(plane(1) + 2 * plane(2) + 4 * plane(3));
    // The sign plane has 1 where a key's code has: an equal bit adds the magnitude.
    sum += plane(0) == (code[word] >> at & 1) ? magnitude : -magnitude;
  }
  scores[int64_t{head} * context + t] = static_cast<int16_t>(sum);
}

// One warp walks a share of the tokens and keeps an online softmax; parts: [heads, shares,
// head_dim + 2] (acc, max, sum). With `masks` ([kv_heads, blocks] of a bit a token) only those
// count and, with `tail`, what a block leaves out enters as one token.
__global__ void reference_attend(gpu::Cache<Half> cache, const int32_t* table, int32_t context,
                                 const Half* q, const uint64_t* masks, bool tail, double* parts) {
  const int32_t dim = cache.head_dim, head = blockIdx.x;
  const int32_t kv = head / (cache.query_heads / cache.kv_heads);
  const int32_t lane = threadIdx.x % 32, share = blockIdx.y * kPartWarps + threadIdx.x / 32;
  const int32_t shares = kParts * kPartWarps, blocks = (context + kBlockSize - 1) / kBlockSize;
  const double scale = 1 / sqrt(static_cast<double>(dim));
  constexpr int32_t kMostValues = 8;  // head_dim 256 at most
  double acc[kMostValues] = {}, top = -INFINITY, total = 0;
  const auto take = [&](const Half* key, const Half* value, double extra) {
    double dot = 0;
    for (int32_t j = 0; j < kMostValues; j++) {
      const int32_t d = j * 32 + lane;
      if (d < dim)
        dot += static_cast<double>(__bfloat162float(q[head * dim + d])) * __bfloat162float(key[d]);
    }
    for (int32_t offset = 16; offset > 0; offset /= 2) dot += __shfl_xor_sync(~0u, dot, offset);
    const double logit = dot * scale + extra, above = max(top, logit);
    const double keep = exp(top - above), weight = exp(logit - above);
    for (int32_t j = 0; j < kMostValues; j++) {
      const int32_t d = j * 32 + lane;
      if (d < dim) acc[j] = acc[j] * keep + weight * __bfloat162float(value[d]);
    }
    total = total * keep + weight;
    top = above;
  };
  for (int32_t block = share; block < blocks; block += shares) {
    const int64_t at = int64_t{table[block]} * cache.kv_heads + kv;
    const int32_t tokens = min(kBlockSize, context - block * kBlockSize);
    const uint64_t mask = masks == nullptr ? ~0ull : masks[int64_t{kv} * blocks + block];
    int32_t left_out = 0;
    for (int32_t t = 0; t < tokens; t++) {
      if ((mask >> t & 1) == 0) {
        left_out++;
        continue;
      }
      const int64_t from = (at * kBlockSize + t) * dim;
      take(cache.k + from, cache.v + from, 0);
    }
    if (tail && left_out > 0)
      take(cache.mean_k + at * dim, cache.mean_v + at * dim, log(static_cast<double>(left_out)));
  }
  double* part = parts + (int64_t{head} * shares + share) * (dim + 2);
  for (int32_t j = 0; j < kMostValues; j++)
    if (j * 32 + lane < dim) part[j * 32 + lane] = acc[j];
  if (lane == 0) part[dim] = top, part[dim + 1] = total;
}

}  // namespace detail

// Masks of the exact top-k of one sequence of a visit, [kv_heads, blocks]; query_codes: its own
// [kv_heads, planes, words]. rule's open block is selected whole, as the kernels read it.
inline std::vector<uint64_t> reference_masks(const World& world, int32_t visit, int32_t seq,
                                             const uint32_t* query_codes,
                                             const SelectionRule& rule) {
  const int32_t heads = world.shape.kv_heads, context = world.context;
  DeviceBuffer<int16_t> on_gpu(size_t(heads) * context);
  const dim3 grid((context + 255) / 256, heads);
  detail::reference_scores<<<grid, 256>>>(world.cache_of(world.set_of(visit)),
                                          world.tables.data() + size_t(seq) * world.seq_blocks,
                                          context, query_codes, on_gpu.data());
  CUDA_CHECK_LAUNCH("reference_scores");
  const std::vector<int16_t> scores = on_host(on_gpu.data(), on_gpu.size());
  constexpr int32_t kMostScore = 7 * kCodeBits;
  std::vector<uint64_t> masks(size_t(heads) * world.seq_blocks);
  for (int32_t head = 0; head < heads; head++) {
    const int16_t* of_head = scores.data() + size_t(head) * context;
    std::vector<int64_t> counts(2 * kMostScore + 1);
    for (int32_t t = rule.from(); t < rule.to(); t++) counts[of_head[t] + kMostScore]++;
    int64_t wanted = rule.wanted();
    int32_t threshold = kMostScore;
    while (threshold > -kMostScore && counts[threshold + kMostScore] < wanted)
      wanted -= counts[threshold-- + kMostScore];
    int64_t ties = wanted;
    for (int32_t t = context - 1; t >= 0; t--) {
      const bool always =
          t < rule.from() || t >= rule.to() || t / kBlockSize == context / kBlockSize;
      bool taken = always || of_head[t] > threshold;
      if (!taken && of_head[t] == threshold && ties > 0) taken = true, ties--;
      if (taken)
        masks[size_t(head) * world.seq_blocks + t / kBlockSize] |= uint64_t{1} << t % kBlockSize;
    }
  }
  return masks;
}

// The fp64 answer of one sequence of a visit, [query_heads, head_dim]; masks empty: all tokens.
inline std::vector<double> reference_answer(const World& world, int32_t visit, int32_t seq,
                                            const std::vector<uint64_t>& masks, bool tail) {
  const int32_t dim = world.shape.head_dim, heads = world.shape.query_heads;
  const int32_t shares = detail::kParts * detail::kPartWarps;
  DeviceBuffer<uint64_t> mask_memory;
  if (!masks.empty()) mask_memory = on_device(masks);
  DeviceBuffer<double> part_memory(size_t(heads) * shares * (dim + 2));
  detail::reference_attend<<<dim3(heads, detail::kParts), 32 * detail::kPartWarps>>>(
      world.cache_of(world.set_of(visit)), world.tables.data() + size_t(seq) * world.seq_blocks,
      world.context, world.q_of(visit) + world.q_width() * seq, mask_memory.data(), tail,
      part_memory.data());
  CUDA_CHECK_LAUNCH("reference_attend");
  const std::vector<double> parts = on_host(part_memory.data(), part_memory.size());
  std::vector<double> answer(size_t(heads) * dim);
  for (int32_t head = 0; head < heads; head++) {
    const double* of_head = parts.data() + size_t(head) * shares * (dim + 2);
    double top = -INFINITY, total = 0;
    for (int32_t s = 0; s < shares; s++) top = std::max(top, of_head[s * (dim + 2) + dim]);
    for (int32_t s = 0; s < shares; s++) {
      const double* part = of_head + s * (dim + 2);
      const double weight = std::exp(part[dim] - top);
      total += weight * part[dim + 1];
      for (int32_t d = 0; d < dim; d++) answer[size_t(head) * dim + d] += weight * part[d];
    }
    for (int32_t d = 0; d < dim; d++) answer[size_t(head) * dim + d] /= total;
  }
  return answer;
}

// |out - answer| / |answer| of one sequence of a visit; NaN where the output holds one.
inline double relative_error(const World& world, int32_t visit, int32_t seq,
                             const std::vector<double>& answer) {
  const std::vector<Half> out =
      on_host(world.out_of(visit) + world.q_width() * seq, world.q_width());
  double wrong = 0, all = 0;
  for (size_t i = 0; i < out.size(); i++) {
    const double difference = static_cast<double>(__bfloat162float(out[i])) - answer[i];
    wrong += difference * difference;
    all += answer[i] * answer[i];
  }
  return std::sqrt(wrong / all);
}

}  // namespace spotlight::bench
