// Queries over a paged cache for tests of the score and attend kernels: sequences with shuffled
// block tables whose unwritten places hold NaN, both code planes, query codes with as many ties as
// wanted; and what must come out, selected by the CPU's own select and attended in fp64.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "attention/gpu/retrieval.h"
#include "attention/kernels.h"
#include "attention/spotlight/attend/attend_gpu.h"
#include "attention/spotlight/encode/number.cuh"
#include "attention/spotlight/score/score_gpu.h"
#include "attention/spotlight/select/select.h"
#include "device/cuda/runtime/device_memory.h"
#include "test/check.h"

namespace spotlight::gpu {

inline float host_float(__nv_bfloat16 x) { return __bfloat162float(x); }
inline float host_float(__half x) { return __half2float(x); }
template <typename T>
T host_narrow(float x);
template <>
inline __nv_bfloat16 host_narrow<__nv_bfloat16>(float x) {
  return __float2bfloat16(x);
}
template <>
inline __half host_narrow<__half>(float x) {
  return __float2half(x);
}

// Device memory with a host's copy.
template <typename E>
class Mirror {
 public:
  void resize(size_t count, const E& value = E()) { host.assign(count, value); }
  void upload() {
    if (device_.size() != host.size()) device_ = DeviceBuffer<E>(host.size());
    if (!host.empty())
      CUDA_CHECK(cudaMemcpy(device_.data(), host.data(), device_.bytes(), cudaMemcpyHostToDevice));
  }
  void download() {
    if (!host.empty())
      CUDA_CHECK(cudaMemcpy(host.data(), device_.data(), device_.bytes(), cudaMemcpyDeviceToHost));
  }
  E* data() const { return device_.data(); }
  std::vector<E> host;

 private:
  DeviceBuffer<E> device_;
};

struct WorldShape {
  int32_t kv_heads = 2, group = 3, head_dim = 64;
  EncoderKind encoder = kLinearAsym;
  int32_t bits = 128;
  int32_t spare_words = 0;   // of a token's code beyond the encoder's
  int32_t used_bits = 1000;  // bits of a query code that are not 0: few give many ties
  uint32_t seed = 1;
};

struct Expected {
  std::vector<std::vector<uint64_t>> selected;  // [queries * virtual_heads][blocks], sparse only
  std::vector<std::vector<double>> out;         // [queries] -> [query_heads * head_dim]
};

template <typename T>
class RetrievalWorld {
 public:
  explicit RetrievalWorld(const WorldShape& world) : world(world), random_(world.seed) {
    shape.query_heads = world.kv_heads * world.group;
    shape.kv_heads = world.kv_heads;
    shape.head_dim = world.head_dim;
    shape.encoder = world.encoder;
    shape.bits = world.bits;
    int value = 0;
    CUDA_CHECK(cudaDeviceGetAttribute(&value, cudaDevAttrMultiProcessorCount, 0));
    shape.multiprocessors = value;
    CUDA_CHECK(cudaDeviceGetAttribute(&value, cudaDevAttrComputeCapabilityMajor, 0));
    shape.capability = 10 * value;
    code_words = shape.words() * shape.selections() + world.spare_words;
  }

  // A sequence of `tokens`; returns its seat.
  int32_t add_sequence(int32_t tokens) {
    sequences_.push_back(tokens);
    return static_cast<int32_t>(sequences_.size()) - 1;
  }
  // A query of the next token index. k is brought into its range for sparse ones.
  void add_query(int32_t seat, int32_t context, QueryMode mode, int32_t k, int32_t plane = 0,
                 int32_t sink = 4, int32_t recent = 64) {
    Query query;
    query.token = static_cast<int32_t>(queries.host.size());
    query.mode = mode;
    query.context = context;
    query.sink = std::min(sink, context);
    query.recent = std::min(recent, context - query.sink);
    query.k = std::max(k, query.sink + query.recent);
    if (mode >= kQuerySparse && query.k >= context) query.mode = kQueryDense;
    query.plane = plane;
    query.seat = seat;
    queries.host.push_back(query);
  }
  void add_padding() { queries.host.push_back(Query{}); }

  // Fills the cache, codes and queries' inputs and plans. Call once, after all are added.
  void build() {
    int32_t longest = 0, pool = 3;
    for (const int32_t tokens : sequences_) {
      longest = std::max(longest, blocks_of(tokens));
      pool += blocks_of(tokens);
    }
    stride_ = longest + 2;
    std::vector<int32_t> free(pool);
    for (int32_t i = 0; i < pool; i++) free[i] = i;
    std::shuffle(free.begin(), free.end(), random_);
    tables.resize(sequences_.size() * stride_, -1);
    const size_t units = static_cast<size_t>(pool) * world.kv_heads;
    const T nan = host_narrow<T>(std::numeric_limits<float>::quiet_NaN());
    for (auto* memory : {&k, &v}) memory->resize(units * kBlockSize * world.head_dim, nan);
    for (auto* memory : {&mean_k, &mean_v}) memory->resize(units * world.head_dim, nan);
    for (auto& plane : codes) {
      plane.resize(units * kBlockSize * code_words);
      for (uint32_t& word : plane.host) word = static_cast<uint32_t>(random_());
    }
    std::normal_distribution<float> normal(0.0f, 1.0f);
    for (size_t seat = 0; seat < sequences_.size(); seat++) {
      for (int32_t b = 0; b < blocks_of(sequences_[seat]); b++) {
        const int32_t block = free.back();
        free.pop_back();
        tables.host[seat * stride_ + b] = block;
        const int32_t filled = std::min(sequences_[seat] - b * kBlockSize, kBlockSize);
        for (int32_t head = 0; head < world.kv_heads; head++)
          fill_block(static_cast<size_t>(block) * world.kv_heads + head, filled, normal);
      }
    }
    const size_t count = queries.host.size(), dim = world.head_dim;
    q.resize(count * shape.query_heads * dim);
    for (T& x : q.host) x = host_narrow<T>(2.0f * normal(random_));
    out.resize(q.host.size(), nan);
    query_codes.resize(count * shape.virtual_heads() * shape.query_words());
    for (size_t i = 0; i < count * shape.virtual_heads(); i++)
      for (int32_t plane = 0; plane <= shape.magnitudes(); plane++)
        for (int32_t w = 0; w < shape.words(); w++) {
          uint32_t word = static_cast<uint32_t>(random_());
          const int32_t used = world.used_bits - 32 * w;
          if (plane > 0 && used < 32) word &= used <= 0 ? 0 : ~0u >> (32 - used);
          query_codes.host[i * shape.query_words() + plane * shape.words() + w] = word;
        }
    plan();
    for (auto* memory : {&k, &v, &mean_k, &mean_v, &q, &out}) memory->upload();
    for (auto& plane : codes) plane.upload();
    tables.upload();
    query_codes.upload();
  }

  // Again after queries were changed.
  void plan() {
    int32_t blocks = 0;
    for (const Query& query : queries.host)
      if (query.mode != kQueryNone) blocks += blocks_of(query.context);
    const auto count = static_cast<int32_t>(queries.host.size());
    if (count > shape.max_queries || blocks > shape.max_blocks) {
      shape.max_queries = count, shape.max_blocks = blocks;
      memory_.resize(workspace_bytes(shape), std::byte{0});
      memory_.upload();
      workspace = make_workspace(shape, memory_.data());
    }
    block_start.resize(count + 1);
    shares.resize(count + 1);
    plan_queries(shape, queries.host.data(), count, block_start.host.data(), shares.host.data());
    trace.resize(static_cast<size_t>(shape.virtual_heads()) * block_start.host[count], 0xabcd);
    trace.upload();
    queries.upload();
    block_start.upload();
    shares.upload();
  }

  ScoreOp score_op() const {
    ScoreOp op;
    for (int32_t plane = 0; plane < kPlanes; plane++) op.codes[plane] = codes[plane].data();
    op.code_words = code_words;
    op.tables = tables.data();
    op.table_stride = stride_;
    op.queries = device_queries();
    op.query_codes = query_codes.data();
    op.workspace = workspace;
    return op;
  }
  AttendOp<T> attend_op() const {
    AttendOp<T> op;
    op.cache.k = k.data();
    op.cache.v = v.data();
    op.cache.mean_k = mean_k.data();
    op.cache.mean_v = mean_v.data();
    for (int32_t plane = 0; plane < kPlanes; plane++) op.cache.codes[plane] = codes[plane].data();
    op.cache.kv_heads = world.kv_heads;
    op.cache.query_heads = shape.query_heads;
    op.cache.head_dim = world.head_dim;
    op.cache.code_words = code_words;
    op.tables = tables.data();
    op.table_stride = stride_;
    op.queries = device_queries();
    op.q = q.data();
    op.out = out.data();
    op.q_stride = op.out_stride = int64_t{shape.query_heads} * world.head_dim;
    op.trace = trace.data();
    op.workspace = workspace;
    return op;
  }

  // Runs the shipped kernels or the naive ones and fetches out and trace.
  void run(bool naive = false) {
    const T nan = host_narrow<T>(std::numeric_limits<float>::quiet_NaN());
    std::fill(out.host.begin(), out.host.end(), nan);
    out.upload();
    if (naive) {
      score_naive(nullptr, score_op());
      attend_naive(nullptr, attend_op());
    } else {
      score(nullptr, score_op());
      attend(nullptr, attend_op());
    }
    CUDA_CHECK(cudaDeviceSynchronize());
    out.download();
    trace.download();
  }

  int32_t blocks_of(int32_t tokens) const { return (tokens + kBlockSize - 1) / kBlockSize; }
  int64_t linear(size_t query, int32_t head) const {
    return int64_t{shape.virtual_heads()} * block_start.host[query] +
           int64_t{head} * blocks_of(queries.host[query].context);
  }
  size_t unit_row(const Query& query, int32_t block, int32_t kv_head) const {
    return static_cast<size_t>(tables.host[query.seat * stride_ + block]) * world.kv_heads +
           kv_head;
  }

  // Scores of a query and virtual head by the CPU's kernel, [blocks * 64].
  std::vector<int16_t> scores(size_t i, int32_t head) const {
    const Query& query = queries.host[i];
    std::vector<uint32_t> code(shape.words() * 4);
    const uint32_t* from =
        query_codes.host.data() + (i * shape.virtual_heads() + head) * shape.query_words();
    std::fill(code.begin(), code.end(), ~0u);
    std::copy_n(from, shape.query_words(), code.begin());
    std::vector<int16_t> made(static_cast<size_t>(blocks_of(query.context)) * kBlockSize);
    for (int32_t b = 0; b < blocks_of(query.context); b++)
      kernels().score_block(
          {codes[query.plane].host.data() +
               unit_row(query, b, head / shape.selections()) * kBlockSize * code_words +
               head % shape.selections() * shape.words(),
           code_words, shape.words(), code.data(), std::max(shape.magnitudes(), 1),
           made.data() + b * kBlockSize});
    return made;
  }

  Expected expected() const {
    Expected result;
    result.selected.resize(queries.host.size() * shape.virtual_heads());
    result.out.resize(queries.host.size());
    for (size_t i = 0; i < queries.host.size(); i++) {
      if (queries.host[i].mode == kQueryNone) continue;
      result.out[i].resize(static_cast<size_t>(shape.query_heads) * world.head_dim);
      for (int32_t head = 0; head < shape.virtual_heads(); head++) {
        std::vector<uint64_t> selected = select(i, head);
        attend_exactly(i, head, selected, result.out[i]);
        if (queries.host[i].mode != kQueryDense)
          result.selected[i * shape.virtual_heads() + head] = std::move(selected);
      }
    }
    return result;
  }

  // out and, for sparse queries, trace against what was expected: selected sets bit for bit, then
  // NaN, each value, and the error of every head as a whole.
  void check(const Expected& expected, const std::string& what) const {
    const double allowed = std::is_same_v<T, __half> ? 1e-3 : 7e-3;
    for (size_t i = 0; i < queries.host.size(); i++) {
      const size_t width = static_cast<size_t>(shape.query_heads) * world.head_dim;
      if (queries.host[i].mode == kQueryNone) {
        for (size_t j = 0; j < width; j++) CHECK(std::isnan(host_float(out.host[i * width + j])));
        continue;
      }
      const auto where = [&](int32_t head) {
        return what + ": query " + std::to_string(i) + " (context " +
               std::to_string(queries.host[i].context) + ", mode " +
               std::to_string(queries.host[i].mode) + "), head " + std::to_string(head);
      };
      if (queries.host[i].mode != kQueryDense)
        for (int32_t head = 0; head < shape.virtual_heads(); head++) {
          const auto& masks = expected.selected[i * shape.virtual_heads() + head];
          for (size_t b = 0; b < masks.size(); b++)
            if (trace.host[linear(i, head) + b] != masks[b])
              check::fail(__FILE__, __LINE__,
                          where(head) + ", block " + std::to_string(b) + ": selected " +
                              std::to_string(trace.host[linear(i, head) + b]) + ", expected " +
                              std::to_string(masks[b]));
        }
      for (int32_t head = 0; head < shape.query_heads; head++) {
        double error = 0, norm = 0;
        std::vector<float> got, wanted;
        for (int32_t j = 0; j < world.head_dim; j++) {
          const size_t at = static_cast<size_t>(head) * world.head_dim + j;
          got.push_back(host_float(out.host[i * width + at]));
          wanted.push_back(static_cast<float>(expected.out[i][at]));
          error += (got.back() - expected.out[i][at]) * (got.back() - expected.out[i][at]);
          norm += expected.out[i][at] * expected.out[i][at];
        }
        const double typical = std::sqrt(norm / world.head_dim);
        check::close(got, wanted, 4 * allowed * typical, 2 * allowed, where(head).c_str(), __FILE__,
                     __LINE__);
        if (std::sqrt(error) > allowed * std::sqrt(norm))
          check::fail(__FILE__, __LINE__,
                      where(head) + ": relative error " + std::to_string(std::sqrt(error / norm)) +
                          ", allowed " + std::to_string(allowed));
      }
    }
  }

  WorldShape world;
  RetrievalShape shape;
  Workspace workspace;
  int32_t code_words = 0;
  Mirror<T> k, v, mean_k, mean_v, q, out;
  Mirror<uint32_t> codes[kPlanes], query_codes;
  Mirror<int32_t> tables, block_start;
  Mirror<Query> queries;
  Mirror<QueryShare> shares;
  Mirror<uint64_t> trace;

 private:
  Queries device_queries() const {
    return {queries.data(), static_cast<int32_t>(queries.host.size()), block_start.data(),
            shares.data()};
  }

  void fill_block(size_t unit, int32_t filled, std::normal_distribution<float>& normal) {
    const size_t dim = world.head_dim;
    for (auto [rows, means] : {std::pair{&k, &mean_k}, std::pair{&v, &mean_v}}) {
      std::vector<float> sum(dim);
      for (int32_t t = 0; t < filled; t++)
        for (size_t j = 0; j < dim; j++) {
          const float x = normal(random_) + 0.5f * std::sin(static_cast<float>(unit + j));
          rows->host[(unit * kBlockSize + t) * dim + j] = host_narrow<T>(x);
          sum[j] += x;
        }
      if (filled == kBlockSize)
        for (size_t j = 0; j < dim; j++)
          means->host[unit * dim + j] = host_narrow<T>(sum[j] / kBlockSize);
    }
  }

  std::vector<uint64_t> select(size_t i, int32_t head) const {
    const Query& query = queries.host[i];
    const SelectionRule rule{query.context, query.k, query.sink, query.recent};
    std::vector<uint64_t> selected(rule.blocks());
    if (query.mode == kQueryDense) {
      for (int32_t b = 0; b < rule.blocks(); b++) selected[b] = block_mask(b, 0, query.context);
      return selected;
    }
    const std::vector<int16_t> made = scores(i, head);
    std::vector<uint32_t> histogram(histogram_words(shape.bins()));
    for (int32_t b = 0; b < rule.blocks(); b++)
      count_scores(made.data() + b * kBlockSize, block_mask(b, rule.from(), rule.to()),
                   histogram.data());
    sum_strides(histogram.data(), shape.bins());
    const Threshold threshold = find_threshold(histogram.data(), 1, shape.bins(), rule.wanted());
    const int32_t skip = ties_left_out(histogram.data(), 1, shape.bins(), 0, threshold);
    select_blocks({rule, threshold, 0, rule.blocks(), made.data(), skip, selected.data()});
    return selected;
  }

  void attend_exactly(size_t i, int32_t head, const std::vector<uint64_t>& selected,
                      std::vector<double>& to) const {
    const Query& query = queries.host[i];
    const int32_t dim = world.head_dim, shared = shape.shared_heads();
    const int32_t closed = query.context / kBlockSize;
    for (int32_t h = head * shared; h < (head + 1) * shared; h++) {
      std::vector<double> logits;
      std::vector<const T*> values;
      const T* own =
          q.host.data() + (static_cast<size_t>(query.token) * shape.query_heads + h) * dim;
      const auto add = [&](const T* key, const T* value, double bias) {
        double logit = 0;
        for (int32_t j = 0; j < dim; j++) logit += double{host_float(own[j])} * host_float(key[j]);
        logits.push_back(logit / std::sqrt(static_cast<double>(dim)) + bias);
        values.push_back(value);
      };
      for (int32_t b = 0; b < static_cast<int32_t>(selected.size()); b++) {
        const size_t unit = unit_row(query, b, head / shape.selections());
        const uint64_t read = b < closed ? selected[b] : block_mask(b, 0, query.context);
        for (int32_t t = 0; t < kBlockSize; t++)
          if (read >> t & 1)
            add(&k.host[(unit * kBlockSize + t) * dim], &v.host[(unit * kBlockSize + t) * dim], 0);
        const int32_t left = kBlockSize - __builtin_popcountll(read);
        if (query.mode == kQueryTail && b < closed && left > 0)
          add(&mean_k.host[unit * dim], &mean_v.host[unit * dim], std::log(double(left)));
      }
      const double top = *std::max_element(logits.begin(), logits.end());
      double total = 0;
      for (double& x : logits) total += x = std::exp(x - top);
      for (int32_t j = 0; j < dim; j++) {
        double sum = 0;
        for (size_t r = 0; r < logits.size(); r++) sum += logits[r] * host_float(values[r][j]);
        to[static_cast<size_t>(h) * dim + j] = sum / total;
      }
    }
  }

  std::mt19937 random_;
  std::vector<int32_t> sequences_;
  int32_t stride_ = 0;
  Mirror<std::byte> memory_;
};

}  // namespace spotlight::gpu
