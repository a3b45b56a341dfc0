// The ways to attend that the benchmark compares, each over the same caches: the product's own
// launches, given what an engine's step would give them.
#pragma once

#include <memory>
#include <optional>

#include "attention/dense/gpu/cudnn_decode.h"
#include "attention/dense/gpu/dense_gpu.h"
#include "attention/gpu/retrieval.h"
#include "attention/spotlight/attend/attend_gpu.h"
#include "attention/spotlight/hash/hash.h"
#include "attention/spotlight/score/score_gpu.h"
#include "attention/spotlight/select/select.h"
#include "bench/attention_world.cuh"

namespace spotlight::bench {

// Contiguous, which cuDNN likes best, the pool's memory is taken for sequences one after the other:
// the same bytes, but not the same tokens, so only its time can be compared.
template <gpu::CudnnLayout kLayout>
class DenseCudnn {
 public:
  static constexpr bool kSameTokens = kLayout == gpu::CudnnLayout::kPaged;
  DenseCudnn(const World& world, cudaStream_t) : world_(world), decode_(shape(world)) {}
  static gpu::CudnnShape shape(const World& world) {
    gpu::CudnnShape shape;
    shape.layout = kLayout;
    shape.batch = world.batch;
    shape.query_heads = world.shape.query_heads;
    shape.kv_heads = world.shape.kv_heads;
    shape.head_dim = world.shape.head_dim;
    shape.context = world.context;
    shape.blocks = world.blocks;
    shape.table_stride = world.seq_blocks;
    return shape;
  }
  void attend(int32_t visit, cudaStream_t stream) const {
    const gpu::Cache<Half> cache = world_.cache_of(world_.set_of(visit));
    decode_.attend(cache.k, cache.v, world_.tables.data(), world_.contexts.data(),
                   world_.q_of(visit), world_.out_of(visit), stream);
  }

 private:
  const World& world_;
  gpu::CudnnDecode decode_;
};

class DenseFlashInfer {
 public:
  static constexpr bool kSameTokens = true;
  DenseFlashInfer(const World& world, cudaStream_t stream) : world_(world), plan_(shape(world)) {
    std::vector<gpu::DenseRow> rows;
    for (int32_t i = 0; i < world.batch; i++) rows.push_back({i, 1, world.context, i});
    plan_.set(rows.data(), world.batch, world.batch, stream);
    CUDA_CHECK(cudaStreamSynchronize(stream));
  }
  static gpu::DenseShape shape(const World& world) {
    gpu::DenseShape shape;
    shape.query_heads = world.shape.query_heads;
    shape.kv_heads = world.shape.kv_heads;
    shape.head_dim = world.shape.head_dim;
    shape.max_rows = shape.max_tokens = shape.seats = world.batch;
    shape.table_stride = world.seq_blocks;
    return shape;
  }
  void attend(int32_t visit, cudaStream_t stream) const {
    gpu::dense_attention(plan_, world_.cache_of(world_.set_of(visit)), world_.tables.data(),
                         world_.q_of(visit), static_cast<int64_t>(world_.q_width()),
                         world_.out_of(visit), world_.batch, stream);
  }

 private:
  const World& world_;
  gpu::DensePlan plan_;
};

// Workspaces and query codes: one of each serves a whole step after step, as in an engine; a stage
// that is timed by itself needs those of every visit to be as the stage before leaves them.
class Spotlight {
 public:
  Spotlight(const World& world, const LayerPolicy& policy, const DeviceFacts& facts,
            int32_t workspaces)
      : world_(world), workspaces_(workspaces) {
    shape_.query_heads = world.shape.query_heads;
    shape_.kv_heads = world.shape.kv_heads;
    shape_.head_dim = world.shape.head_dim;
    shape_.encoder = gpu::kLinearAsym;
    shape_.bits = kCodeBits;
    shape_.max_queries = world.batch;
    shape_.max_blocks = world.blocks;
    shape_.multiprocessors = facts.multiprocessors;
    shape_.capability = facts.capability;
    const SelectionRule rule = selection_rule(policy, world.context);
    for (const gpu::QueryMode mode : {gpu::kQuerySparse, gpu::kQueryTail}) {
      std::vector<gpu::Query> list(static_cast<size_t>(world.batch));
      for (int32_t i = 0; i < world.batch; i++) {
        gpu::Query& query = list[static_cast<size_t>(i)];
        query.token = query.seat = i;
        query.mode = mode;
        query.context = rule.context;
        query.k = rule.k;
        query.sink = rule.sink;
        query.recent = rule.recent;
      }
      std::vector<int32_t> block_start(list.size() + 1);
      std::vector<gpu::QueryShare> shares(list.size() + 1);
      gpu::plan_queries(shape_, list.data(), world.batch, block_start.data(), shares.data());
      Plan& plan = plans_[mode == gpu::kQueryTail];
      plan.list = on_device(list);
      plan.block_start = on_device(block_start);
      plan.shares = on_device(shares);
    }
    bytes_ = gpu::workspace_bytes(shape_);
    memory_ = DeviceBuffer<std::byte>(bytes_ * workspaces);
    code_words_ = size_t(world.batch) * world.shape.kv_heads * shape_.query_words();
    query_codes_ = DeviceBuffer<uint32_t>(code_words_ * workspaces);
    forget(nullptr);
    CUDA_CHECK(cudaDeviceSynchronize());
  }

  // Workspaces as new.
  void forget(cudaStream_t stream) const {
    CUDA_CHECK(cudaMemsetAsync(memory_.data(), 0, memory_.bytes(), stream));
  }

  void hash(int32_t visit, bool tail, cudaStream_t stream) const {
    const int32_t set = world_.set_of(visit);
    gpu::HashOp<Half> op;
    op.cache = world_.cache_of(set);
    op.tokens = world_.tokens();
    op.queries = queries(tail);
    op.q = world_.q_of(visit);
    op.k = world_.new_k_of(set);
    op.v = world_.new_v_of(set);
    op.q_stride = static_cast<int64_t>(world_.q_width());
    op.k_stride = op.v_stride = static_cast<int64_t>(world_.kv_width());
    op.angles = world_.angles.data();
    op.encoders = world_.encoders_of(set);
    op.codes = {codes_of(visit), shape_.query_words()};
    gpu::hash(stream, op, true);  // as in a step; what is in front of it lets nobody start early
  }
  void score(int32_t visit, bool tail, cudaStream_t stream) const {
    const gpu::Cache<Half> cache = world_.cache_of(world_.set_of(visit));
    gpu::ScoreOp op;
    op.codes[0] = cache.codes[0];
    op.code_words = cache.code_words;
    op.tables = world_.tables.data();
    op.table_stride = world_.seq_blocks;
    op.queries = queries(tail);
    op.query_codes = codes_of(visit);
    op.workspace = workspace(visit);
    gpu::score(stream, op);
  }
  void attend(int32_t visit, bool tail, cudaStream_t stream) const {
    gpu::AttendOp<Half> op;
    op.cache = world_.cache_of(world_.set_of(visit));
    op.tables = world_.tables.data();
    op.table_stride = world_.seq_blocks;
    op.queries = queries(tail);
    op.workspace = workspace(visit);
    op.q = world_.q_of(visit);
    op.q_stride = op.out_stride = static_cast<int64_t>(world_.q_width());
    op.out = world_.out_of(visit);
    op.trace = trace_.data();
    gpu::attend(stream, op);
  }
  void all(int32_t visit, bool tail, cudaStream_t stream) const {
    hash(visit, tail, stream);
    score(visit, tail, stream);
    attend(visit, tail, stream);
  }
  // From here on attend tells what it selects.
  void keep_trace() {
    trace_ = DeviceBuffer<uint64_t>(size_t(world_.blocks) * world_.shape.kv_heads);
  }
  // What the last attend selected for one sequence, [kv_heads, blocks] of a bit a token.
  std::vector<uint64_t> trace(int32_t seq) const {
    const size_t of_seq = size_t(world_.seq_blocks) * world_.shape.kv_heads;
    return on_host(trace_.data() + of_seq * seq, of_seq);
  }
  // Of one sequence, [kv_heads, planes, words].
  const uint32_t* query_codes(int32_t visit, int32_t seq) const {
    return codes_of(visit) + size_t(seq) * world_.shape.kv_heads * shape_.query_words();
  }

 private:
  struct Plan {
    DeviceBuffer<gpu::Query> list;
    DeviceBuffer<int32_t> block_start;
    DeviceBuffer<gpu::QueryShare> shares;
  };
  gpu::Queries queries(bool tail) const {
    const Plan& plan = plans_[tail];
    return {plan.list.data(), world_.batch, plan.block_start.data(), plan.shares.data()};
  }
  uint32_t* codes_of(int32_t visit) const {
    return query_codes_.data() + code_words_ * (visit % workspaces_);
  }
  gpu::Workspace workspace(int32_t visit) const {
    return gpu::make_workspace(shape_, memory_.data() + bytes_ * (visit % workspaces_));
  }

  const World& world_;
  int32_t workspaces_;
  gpu::RetrievalShape shape_;
  Plan plans_[2];  // without and with the tail
  size_t bytes_ = 0, code_words_ = 0;
  DeviceBuffer<std::byte> memory_;
  DeviceBuffer<uint32_t> query_codes_;
  DeviceBuffer<uint64_t> trace_;
};

}  // namespace spotlight::bench
