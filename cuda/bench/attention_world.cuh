// Caches for the attention benchmark: several layers' block pools of one batch, filled on the GPU
// by a seeded generator. Keys have structure, since what is gathered and how scores spread depend
// on it: every 32 tokens share one of 64 topics, and a group's queries ask for one. Blocks lie in
// shuffled order. The product's own append stores them, codes and summaries too.
#pragma once

#include <cuda_bf16.h>

#include <numeric>
#include <random>

#include "attention/gpu/view.h"
#include "attention/spotlight/append/append.h"
#include "bench/gpu_bench.cuh"

namespace spotlight::bench {

struct HeadShape {
  const char* name;
  int32_t query_heads, kv_heads, head_dim;
  int32_t group() const { return query_heads / kv_heads; }
};

inline constexpr int32_t kCodeBits = 128, kCodeWords = kCodeBits / 32;
inline constexpr int32_t kLeastVisits = 32;  // of a walk, that a graph be long enough to time

namespace detail {

__device__ inline uint64_t mix(uint64_t x) {  // splitmix64
  x += 0x9e3779b97f4a7c15ull;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
  return x ^ (x >> 31);
}
// About normal, of deviation one: the sum of a word's four 16-bit uniforms.
__device__ inline float normal(uint64_t key) {
  const uint64_t word = mix(key);
  float sum = 0;
  for (int lane = 0; lane < 4; lane++)
    sum += (static_cast<float>((word >> (16 * lane)) & 0xffff) + 0.5f) * (1.f / 65536) - 0.5f;
  return sum * 1.7320508f;
}
inline constexpr int32_t kTopics = 64, kTopicTokens = 32;
__device__ inline float topic_value(int32_t head, int32_t topic, int32_t d) {
  return normal(0x70b1c000ull + ((static_cast<uint64_t>(head) * kTopics + topic) << 10) + d);
}

// K and V of tokens [first, first + count) of one sequence, [count, kv_heads, head_dim].
__global__ void make_tokens(HeadShape shape, int32_t first, int32_t count, uint64_t seed,
                            float structure, __nv_bfloat16* k, __nv_bfloat16* v) {
  const int32_t dim = shape.head_dim, width = shape.kv_heads * dim;
  for (int64_t i = blockIdx.x * int64_t{blockDim.x} + threadIdx.x; i < int64_t{count} * width;
       i += int64_t{gridDim.x} * blockDim.x) {
    const auto d = static_cast<int32_t>(i % dim);
    const auto head = static_cast<int32_t>(i / dim % shape.kv_heads);
    const auto token = static_cast<uint64_t>(first + i / width);
    const auto topic = static_cast<int32_t>(
        mix(seed + 31 * (token / kTopicTokens) + (static_cast<uint64_t>(head) << 40)) % kTopics);
    const uint64_t key = mix(seed ^ (token * width + static_cast<uint64_t>(i % width)));
    k[i] = __float2bfloat16(structure * topic_value(head, topic, d) + 0.7f * normal(key));
    v[i] = __float2bfloat16(normal(key ^ 0x5eed5eedull));
  }
}

// Queries of a batch: a KV head's group asks for one topic, each head and visit in its own way.
__global__ void fill_queries(__nv_bfloat16* q, HeadShape shape, int32_t count, uint64_t topics,
                             uint64_t seed) {
  const int32_t width = shape.query_heads * shape.head_dim;
  for (int32_t i = blockIdx.x * blockDim.x + threadIdx.x; i < count * width;
       i += gridDim.x * blockDim.x) {
    const int32_t head = i % width / shape.head_dim, d = i % shape.head_dim;
    const int32_t kv = head / (shape.query_heads / shape.kv_heads);
    const auto topic = static_cast<int32_t>(mix(topics + 977 * (i / width) + 31 * kv) % kTopics);
    q[i] = __float2bfloat16(0.4f * topic_value(kv, topic, d) +
                            0.5f * normal(mix(seed ^ 0x9000ull) + i));
  }
}

__global__ void fill_normal(__nv_bfloat16* out, int64_t count, float deviation, uint64_t seed) {
  for (int64_t i = blockIdx.x * int64_t{blockDim.x} + threadIdx.x; i < count;
       i += int64_t{gridDim.x} * blockDim.x)
    out[i] = __float2bfloat16(deviation * normal(mix(seed) + static_cast<uint64_t>(i)));
}

}  // namespace detail

using Half = __nv_bfloat16;

// `sets` layers of one batch: sequence b's blocks are the same ids in each, as in an engine. A walk
// visits every layer, several times where there are few, each time with other queries: a query like
// the last one, but not the same, is what a decode step brings.
struct World {
  World(const HeadShape& shape, int32_t batch, int32_t context, int32_t sets, bool structured)
      : shape(shape),
        batch(batch),
        context(context),
        sets(sets),
        visits((kLeastVisits + sets - 1) / sets * sets) {
    seq_blocks = (context + kBlockSize - 1) / kBlockSize;
    blocks = batch * seq_blocks;
    const size_t heads = size_t(blocks) * shape.kv_heads;  // (block, head) pairs of a set
    const size_t values = heads * kBlockSize * shape.head_dim;
    const size_t q_width = size_t(shape.query_heads) * shape.head_dim;
    const size_t kv_width = size_t(shape.kv_heads) * shape.head_dim;
    k = DeviceBuffer<Half>(values * sets);
    v = DeviceBuffer<Half>(values * sets);
    mean_k = DeviceBuffer<Half>(heads * shape.head_dim * sets);
    mean_v = DeviceBuffer<Half>(heads * shape.head_dim * sets);
    codes = DeviceBuffer<uint32_t>(heads * kBlockSize * kCodeWords * sets);
    q = DeviceBuffer<Half>(q_width * batch * visits);
    new_k = DeviceBuffer<Half>(kv_width * batch * sets);
    new_v = DeviceBuffer<Half>(kv_width * batch * sets);
    out = DeviceBuffer<Half>(q_width * batch * visits);
    key_weights = DeviceBuffer<Half>(size_t(shape.kv_heads) * shape.head_dim * kCodeBits * sets);
    query_weights =
        DeviceBuffer<Half>(size_t(shape.query_heads) * shape.head_dim * kCodeBits * sets);

    std::vector<int32_t> order(blocks);
    std::iota(order.begin(), order.end(), 0);
    std::mt19937 random(9);
    std::shuffle(order.begin(), order.end(), random);
    tables = on_device(order);
    host_tables = std::move(order);
    std::vector<int32_t> positions(batch, context - 1), seats(batch);
    std::iota(seats.begin(), seats.end(), 0);
    position = on_device(positions);
    seat = on_device(seats);
    contexts = on_device(std::vector<int32_t>(batch, context));

    // No rotation: what is in place already stays what it is when a step is repeated.
    std::vector<float> turns(size_t(kChunk) * shape.head_dim);
    for (size_t i = 0; i < turns.size(); i++)
      turns[i] = i % shape.head_dim < size_t(shape.head_dim) / 2 ? 1.f : 0.f;
    angles = on_device(turns);

    const float deviation = 1.f / std::sqrt(static_cast<float>(shape.head_dim));
    std::vector<gpu::LayerEncoder> made(size_t(sets) * kPlanes);
    for (int32_t set = 0; set < sets; set++) {
      for (int32_t visit = set; visit < visits; visit += sets)
        detail::fill_queries<<<64, 256>>>(q.data() + q_width * batch * visit, shape, batch,
                                          0xa5ull + 104729 * set, 0xb6ull + 15485863 * visit);
      // Keys and queries share a projection, as an untrained code would: the code is of LSH's kind.
      const size_t part = size_t(shape.head_dim) * kCodeBits;
      for (int32_t head = 0; head < shape.query_heads; head++) {
        const int32_t kv = head / shape.group();
        const uint64_t seed = 0xc0de00ull + 64 * set + kv;
        detail::fill_normal<<<64, 256>>>(
            query_weights.data() + part * (size_t(shape.query_heads) * set + head),
            static_cast<int64_t>(part), deviation, seed);
        if (head % shape.group() == 0)
          detail::fill_normal<<<64, 256>>>(
              key_weights.data() + part * (size_t(shape.kv_heads) * set + kv),
              static_cast<int64_t>(part), deviation, seed);
      }
      gpu::LayerEncoder& encoder = made[size_t(set) * kPlanes];
      encoder.kind = gpu::kLinearAsym;
      encoder.linear.key = key_weights.data() + part * shape.kv_heads * set;
      encoder.linear.query = query_weights.data() + part * shape.query_heads * set;
      encoder.linear.bits = kCodeBits;
    }
    encoders = on_device(made);
    detail::fill_normal<<<256, 256>>>(new_k.data(), static_cast<int64_t>(new_k.size()), 1.f, 1);
    detail::fill_normal<<<256, 256>>>(new_v.data(), static_cast<int64_t>(new_v.size()), 1.f, 2);
    CUDA_CHECK_LAUNCH("fill");
    store_tokens(structured ? 1.f : 0.f);
  }

  gpu::Cache<Half> cache_of(int32_t set) const {
    const size_t heads = size_t(blocks) * shape.kv_heads;
    gpu::Cache<Half> cache;
    cache.k = k.data() + heads * kBlockSize * shape.head_dim * set;
    cache.v = v.data() + heads * kBlockSize * shape.head_dim * set;
    cache.mean_k = mean_k.data() + heads * shape.head_dim * set;
    cache.mean_v = mean_v.data() + heads * shape.head_dim * set;
    cache.codes[0] = codes.data() + heads * kBlockSize * kCodeWords * set;
    cache.kv_heads = shape.kv_heads;
    cache.query_heads = shape.query_heads;
    cache.head_dim = shape.head_dim;
    cache.code_words = kCodeWords;
    return cache;
  }
  gpu::Tokens tokens() const {
    gpu::Tokens tokens;
    tokens.position = position.data();
    tokens.seat = seat.data();
    tokens.tables = tables.data();
    tokens.table_stride = seq_blocks;
    tokens.count = batch;
    return tokens;
  }
  const gpu::LayerEncoder* encoders_of(int32_t set) const {
    return encoders.data() + size_t(set) * kPlanes;
  }
  int32_t set_of(int32_t visit) const { return visit % sets; }
  Half* q_of(int32_t visit) const { return q.data() + q_width() * batch * visit; }
  Half* out_of(int32_t visit) const { return out.data() + q_width() * batch * visit; }
  Half* new_k_of(int32_t set) const { return new_k.data() + kv_width() * batch * set; }
  Half* new_v_of(int32_t set) const { return new_v.data() + kv_width() * batch * set; }
  size_t q_width() const { return size_t(shape.query_heads) * shape.head_dim; }
  size_t kv_width() const { return size_t(shape.kv_heads) * shape.head_dim; }

  // Bytes of memory one set takes.
  static size_t set_bytes(const HeadShape& shape, int32_t batch, int32_t context) {
    const size_t tokens = size_t((context + kBlockSize - 1) / kBlockSize) * kBlockSize * batch;
    const size_t a_token = size_t(shape.kv_heads) * (4 * shape.head_dim + 4 * kCodeWords);
    return tokens * a_token + tokens / kBlockSize * shape.kv_heads * shape.head_dim * 4 +
           size_t(shape.query_heads + shape.kv_heads) * shape.head_dim * kCodeBits * 2;
  }

  // Appends every token of every sequence in every set, a chunk at a time.
  void store_tokens(float structure) {
    DeviceBuffer<Half> chunk_k(kChunk * kv_width()), chunk_v(kChunk * kv_width());
    std::vector<int32_t> counting(size_t(context) + kChunk);
    std::iota(counting.begin(), counting.end(), 0);
    const DeviceBuffer<int32_t> positions = on_device(counting);
    for (int32_t seq = 0; seq < batch; seq++) {
      const DeviceBuffer<int32_t> seats = on_device(std::vector<int32_t>(kChunk, seq));
      for (int32_t set = 0; set < sets; set++) {
        const uint64_t seed = 0x5107ull + 7919 * set + (static_cast<uint64_t>(seq) << 48);
        for (int32_t first = 0; first < context; first += kChunk) {
          gpu::AppendOp<Half> op;
          op.cache = cache_of(set);
          op.tokens = tokens();
          op.tokens.position = positions.data() + first;
          op.tokens.seat = seats.data();
          op.tokens.count = std::min(kChunk, context - first);
          op.k = chunk_k.data();
          op.v = chunk_v.data();
          op.k_stride = op.v_stride = static_cast<int64_t>(kv_width());
          op.angles = angles.data();
          op.encoders = encoders_of(set);
          detail::make_tokens<<<2048, 256>>>(shape, first, op.tokens.count, seed, structure,
                                             chunk_k.data(), chunk_v.data());
          CUDA_CHECK_LAUNCH("make_tokens");
          gpu::append(nullptr, op);
        }
      }
      CUDA_CHECK(cudaDeviceSynchronize());
    }
  }

  static constexpr int32_t kChunk = 8192;
  HeadShape shape;
  int32_t batch, context, sets, visits;
  int32_t seq_blocks = 0, blocks = 0;
  DeviceBuffer<Half> k, v, mean_k, mean_v, q, new_k, new_v, out, key_weights, query_weights;
  DeviceBuffer<uint32_t> codes;
  DeviceBuffer<float> angles;                // [kChunk, head_dim]: all of angle 0
  DeviceBuffer<gpu::LayerEncoder> encoders;  // [sets, kPlanes]
  DeviceBuffer<int32_t> tables, position, seat, contexts;
  std::vector<int32_t> host_tables;  // [batch, seq_blocks]
};

}  // namespace spotlight::bench
