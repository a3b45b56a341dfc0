#include "device/cuda/attention.h"

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <algorithm>
#include <cstring>

#include "attention/exact/mass_gpu.h"
#include "attention/exact/quality.h"
#include "attention/spotlight/append/append.h"
#include "attention/spotlight/attend/attend_gpu.h"
#include "attention/spotlight/encode/limits.h"
#include "attention/spotlight/hash/hash.h"
#include "attention/spotlight/query/query_code.h"
#include "attention/spotlight/score/score_gpu.h"
#include "error.h"
#include "model/rope.h"

namespace spotlight {
namespace {

// Blocks of one launch's queries, over those of the pool: rows that share a prefix count its blocks
// each. What has more runs in slices.
constexpr int64_t kBlocksOverPool = 2, kMostBlocks = 1 << 22;
constexpr int32_t kSliceStep = 4;

int32_t blocks_of(const gpu::Query& query) {
  return query.mode == gpu::kQueryNone ? 0 : (query.context + kBlockSize - 1) / kBlockSize;
}

bool same(const std::vector<gpu::Query>& a, const std::vector<gpu::Query>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof a[0]) == 0;
}

}  // namespace

template <typename T>
CudaAttention<T>::CudaAttention(const DeviceOptions& options, const AttentionLimits& limits)
    : config_(options.config),
      shape_{config_.layers, config_.kv_heads},
      sparse_backend_(options.backend == "spotlight"),
      limits_(limits),
      tables_(static_cast<size_t>(limits.seats) * limits.table_stride),
      table_(static_cast<size_t>(config_.layers) * kPlanes),
      host_table_(static_cast<size_t>(config_.layers) * kPlanes),
      angles_(static_cast<size_t>(limits.tokens) * config_.head_dim) {
  context_.query_heads = config_.query_heads;
  context_.counters = options.counters;
  const RopeFrequencies rope = rope_frequencies(config_.rope, config_.head_dim);
  magnitude_ = rope.magnitude;
  inverse_ = DeviceBuffer<double>(rope.inverse.size());
  CUDA_CHECK(
      cudaMemcpy(inverse_.data(), rope.inverse.data(), inverse_.bytes(), cudaMemcpyHostToDevice));
  CUDA_CHECK(cudaMemcpy(table_.data(), host_table_.data(), table_.bytes(), cudaMemcpyHostToDevice));
  CUDA_CHECK(cudaMemset(tables_.data(), 0, tables_.bytes()));

  dense_plan(0);
  if (!sparse_backend_) return;
  gpu::RetrievalShape shape;
  shape.query_heads = config_.query_heads;
  shape.kv_heads = config_.kv_heads;
  shape.head_dim = config_.head_dim;
  shape.max_queries = std::max(limits_.rows, kSliceStep);
  shape.max_blocks = static_cast<int32_t>(std::clamp<int64_t>(
      kBlocksOverPool * limits_.blocks, int64_t{kSliceStep} * limits_.table_stride, kMostBlocks));
  shape.multiprocessors = limits_.multiprocessors;
  shape.capability = limits_.capability;
  retrieval_ = std::make_shared<RetrievalMemory>(shape, limits_.tokens,
                                                 std::min(options.code_bits, gpu::kMaxLinearBits));
}

template <typename T>
gpu::DensePlan& CudaAttention<T>::dense_plan(size_t index) {
  while (dense_plans_.size() <= index) {
    gpu::DenseShape shape;
    shape.query_heads = config_.query_heads;
    shape.kv_heads = config_.kv_heads;
    shape.head_dim = config_.head_dim;
    shape.max_rows = limits_.rows;
    shape.max_tokens = limits_.tokens;
    shape.table_stride = limits_.table_stride;
    shape.seats = limits_.seats;
    // The GPU's kernels are not in every build for it.
    shape.hopper_prefill = limits_.capability >= 90;
    dense_plans_.push_back(std::make_unique<gpu::DensePlan>(shape));
  }
  return *dense_plans_[index];
}

template <typename T>
void CudaAttention<T>::set_encoder(int32_t plane, const CudaEncoder* encoder, cudaStream_t stream) {
  if (!sparse_backend_) return;
  context_.encoders[plane] = encoder;
  for (int32_t l = 0; l < config_.layers; l++)
    host_table_[static_cast<size_t>(l) * kPlanes + static_cast<size_t>(plane)] =
        encoder != nullptr ? encoder->at(l) : gpu::LayerEncoder{};
  CUDA_CHECK(cudaMemcpyAsync(table_.data(), host_table_.data(), table_.bytes(),
                             cudaMemcpyHostToDevice, stream));
  CUDA_CHECK(cudaStreamSynchronize(stream));
}

// --- The host side of a step
// ----------------------------------------------------------------------------------------

template <typename T>
void CudaAttention<T>::prepare(const StepInput& step, int32_t tokens, bool decode,
                               const int32_t* positions, const int32_t* seats, StepImage& image) {
  decode_ = decode;
  if (retrieval_ != nullptr) memory_ = retrieval_->view();
  tokens_ = {positions, seats, tables_.data(), limits_.table_stride, tokens};
  const StepPlan plan =
      plan_step(context_, shape_, step.rows, step.row_count, sparse_backend_, decode ? tokens : 0);
  pattern_ = plan.pattern();
  capturable_ = decode;
  layers_.assign(plan.layers.size(), {});
  for (size_t l = 0; l < plan.layers.size(); l++) {
    layers_[l].dense = plan.layers[l].dense;
    if (!plan.layers[l].queries.empty())
      prepare_layer(l, plan.layers[l].queries, l > 0 ? &plan.layers[l - 1].queries : nullptr,
                    image);
  }
  dense_rows_.assign(plan.dense.size(), {});
  for (size_t i = 0; i < plan.dense.size(); i++)
    for (const Segment& segment : plan.dense[i])
      dense_rows_[i].push_back(
          {segment.first, segment.tokens, segment.position + segment.tokens, segment.row->seat});
  step_ = &steps_[prepared_++ % 2];
  find_traces(step, plan);
}

template <typename T>
void CudaAttention<T>::prepare_layer(size_t l, const std::vector<gpu::Query>& queries,
                                     const std::vector<gpu::Query>* before, StepImage& image) {
  Layer& layer = layers_[l];
  const bool repeats = before != nullptr && same(*before, queries);
  // A step that no graph runs need not say the same thing twice.
  if (repeats && !decode_) {
    const int32_t dense = layer.dense;
    layer = layers_[l - 1];
    layer.dense = dense;
    return;
  }
  const auto count = static_cast<int32_t>(queries.size());
  const auto list = image.take<gpu::Query>(queries.size());
  std::copy(queries.begin(), queries.end(), list.host);
  layer.queries = {list.device, count, nullptr, nullptr};
  const gpu::RetrievalShape& shape = memory_.workspace.shape;
  for (int32_t first = 0; first < count;) {
    int32_t some = 0;
    int64_t blocks = 0;
    while (first + some < count && some < shape.max_queries) {
      blocks += blocks_of(queries[static_cast<size_t>(first + some)]);
      if (blocks > shape.max_blocks) break;
      some++;
    }
    // Codes of a slice begin on 16 bytes.
    if (first + some < count) some -= some % kSliceStep;
    const auto places = static_cast<size_t>(some) + 1;
    const auto block_start = image.take<int32_t>(places);
    const auto shares = image.take<gpu::QueryShare>(places);
    if (repeats) {  // in as many slices, then
      const Slice& alike = layers_[l - 1].slices[layer.slices.size()];
      std::copy_n(alike.block_start, places, block_start.host);
      std::copy_n(alike.shares, places, shares.host);
    } else {
      gpu::plan_queries(shape, queries.data() + first, some, block_start.host, shares.host);
    }
    Slice slice;
    slice.first = first;
    slice.queries = {list.device + first, some, block_start.device, shares.device};
    slice.block_start = block_start.host;
    slice.shares = shares.host;
    layer.slices.push_back(slice);
    first += some;
  }
  capturable_ = capturable_ && layer.slices.size() == 1;
}

template <typename T>
void CudaAttention<T>::find_traces(const StepInput& step, const StepPlan& plan) {
  step_->traced.clear();
  step_->probed.clear();
  for (int32_t i = 0; i < step.row_count; i++) {
    // What attends densely leaves nothing out.
    if (QualityProbe* probe = step.rows[i].quality)
      std::fill(probe->results.begin(), probe->results.end(), Quality{1, 1, 1});
  }
  if (retrieval_ == nullptr) return;
  const gpu::RetrievalShape& shape = memory_.workspace.shape;
  const auto heads = static_cast<size_t>(shape.virtual_heads());
  step_->selections = shape.selections();
  size_t used = 0;
  for (int32_t i = 0; i < step.row_count; i++) {
    const RowView& row = step.rows[i];
    if (row.trace == nullptr) continue;
    const int32_t last = row.first + row.tokens - 1;
    for (size_t l = 0; l < layers_.size(); l++) {
      for (const Slice& slice : layers_[l].slices) {
        for (int32_t n = 0; n < slice.queries.count; n++) {
          const gpu::Query& query = plan.layers[l].queries[static_cast<size_t>(slice.first + n)];
          if (query.token != last || query.mode < gpu::kQuerySparse) continue;
          const auto blocks = static_cast<size_t>(blocks_of(query));
          step_->traced.push_back({row.trace + l * static_cast<size_t>(config_.kv_heads), &slice,
                                   heads * static_cast<size_t>(slice.block_start[n]), used,
                                   blocks});
          if (row.quality != nullptr) probe(row, static_cast<int32_t>(l), query);
          used += heads * blocks;
        }
      }
    }
  }
  if (used == 0) return;
  capturable_ = false;
  if (step_->masks.size() < used) {
    step_->masks = {};
    step_->masks = PinnedBuffer<uint64_t>(used);
  }
  const size_t room = heads * static_cast<size_t>(shape.max_blocks);
  if (trace_.size() < room) trace_ = DeviceBuffer<uint64_t>(room);
  make_room_for_probes();
}

template <typename T>
void CudaAttention<T>::probe(const RowView& row, int32_t layer, const gpu::Query& query) {
  for (int32_t head = 0; head < config_.kv_heads; head++)
    if (row.quality->wants(layer, head))
      step_->probed.push_back({row.quality, row.trace + layer * config_.kv_heads + head, layer,
                               head, query.token, query.seat, query.context, 0});
}

// Masses of all probes lie one behind the other, on the device as on the host. A device buffer is
// only given back when the steps before have ended: cudaFree waits for them.
template <typename T>
void CudaAttention<T>::make_room_for_probes() {
  size_t used = 0, workspace = 0;
  for (Probed& probed : step_->probed) {
    probed.at = used;
    used += static_cast<size_t>(probed.context);
    workspace = std::max(
        workspace, gpu::mass_workspace(config_.query_heads / config_.kv_heads, probed.context));
  }
  if (masses_.size() < used) masses_ = DeviceBuffer<float>(used);
  if (mass_workspace_.size() < workspace) mass_workspace_ = DeviceBuffer<float>(workspace);
  if (step_->masses.size() < used) {
    step_->masses = {};
    step_->masses = PinnedBuffer<float>(used);
  }
}

template <typename T>
void CudaAttention<T>::plan_dense(cudaStream_t stream) {
  for (size_t i = 0; i < dense_rows_.size(); i++)
    dense_plan(i).set(dense_rows_[i].data(), static_cast<int32_t>(dense_rows_[i].size()),
                      capturable_ ? tokens_.count : 0, stream);
}

// --- On the stream
// --------------------------------------------------------------------------------------------------

template <typename T>
void CudaAttention<T>::begin(cudaStream_t stream) {
  gpu::make_angles(stream, inverse_.data(), magnitude_, tokens_.position, tokens_.count,
                   config_.head_dim, angles_.data());
}

template <typename T>
void CudaAttention<T>::layer(int32_t index, gpu::Rows<T> q, gpu::Rows<T> k, gpu::Rows<T> v,
                             gpu::Rows<T> out, cudaStream_t stream) {
  const Layer& layer = layers_[static_cast<size_t>(index)];
  const gpu::Cache<T> cache = pool_->layer<T>(index);
  if (decode_) {
    gpu::HashOp<T> op;
    op.cache = cache;
    op.tokens = tokens_;
    op.queries = layer.queries;
    op.q = q.data;
    op.k = k.data;
    op.v = v.data;
    op.q_stride = q.stride;
    op.k_stride = k.stride;
    op.v_stride = v.stride;
    op.angles = angles_.data();
    op.encoders = encoders(index);
    op.codes = memory_.codes;
    gpu::hash(stream, op, true);
  } else {
    gpu::AppendOp<T> append;
    append.cache = cache;
    append.tokens = tokens_;
    append.k = k.data;
    append.v = v.data;
    append.k_stride = k.stride;
    append.v_stride = v.stride;
    append.angles = angles_.data();
    append.encoders = sparse_backend_ ? encoders(index) : nullptr;
    gpu::append(stream, append);
    gpu::QueryOp<T> query;
    query.query_heads = config_.query_heads;
    query.kv_heads = config_.kv_heads;
    query.head_dim = config_.head_dim;
    query.q = q.data;
    query.q_stride = q.stride;
    query.angles = angles_.data();
    query.tokens = tokens_;
    query.queries = layer.queries;
    query.encoders = sparse_backend_ ? encoders(index) : nullptr;
    query.codes = memory_.codes;
    gpu::encode_queries(stream, query);
  }
  if (layer.dense >= 0)
    gpu::dense_attention<T>(*dense_plans_[static_cast<size_t>(layer.dense)], cache, tables_.data(),
                            q.data, q.stride, out.data, tokens_.count, stream);
  for (const Slice& slice : layer.slices) attend(index, slice, q, out, stream);
  if (!step_->probed.empty()) measure(index, q, stream);
}

template <typename T>
void CudaAttention<T>::measure(int32_t layer, gpu::Rows<T> q, cudaStream_t stream) {
  for (const Probed& probed : step_->probed) {
    if (probed.layer != layer) continue;
    gpu::MassOp<T> op;
    op.cache = pool_->layer<T>(layer);
    op.table = tables_.data() + int64_t{probed.seat} * limits_.table_stride;
    op.context = probed.context;
    op.head = probed.head;
    op.q = q.data + probed.token * q.stride;
    op.mass = masses_.data() + probed.at;
    op.workspace = mass_workspace_.data();
    gpu::softmax_mass(stream, op);
    CUDA_CHECK(cudaMemcpyAsync(step_->masses.data() + probed.at, op.mass,
                               static_cast<size_t>(probed.context) * sizeof(float),
                               cudaMemcpyDeviceToHost, stream));
  }
}

template <typename T>
void CudaAttention<T>::attend(int32_t layer, const Slice& slice, gpu::Rows<T> q, gpu::Rows<T> out,
                              cudaStream_t stream) {
  const gpu::Cache<T> cache = pool_->layer<T>(layer);
  const gpu::QueryCodes& codes = memory_.codes;
  const uint32_t* words = codes.words + int64_t{slice.first} * config_.kv_heads * codes.stride;
  gpu::ScoreOp score;
  std::copy(std::begin(cache.codes), std::end(cache.codes), score.codes);
  score.code_words = cache.code_words;
  score.tables = tables_.data();
  score.table_stride = limits_.table_stride;
  score.queries = slice.queries;
  score.query_codes = words;
  score.workspace = memory_.workspace;
  gpu::score(stream, score);
  gpu::AttendOp<T> attend;
  attend.cache = cache;
  attend.tables = tables_.data();
  attend.table_stride = limits_.table_stride;
  attend.queries = slice.queries;
  attend.q = q.data;
  attend.out = out.data;
  attend.q_stride = q.stride;
  attend.out_stride = out.stride;
  attend.workspace = memory_.workspace;
  const bool traced = std::any_of(step_->traced.begin(), step_->traced.end(),
                                  [&](const Traced& t) { return t.slice == &slice; });
  if (traced) attend.trace = trace_.data();
  gpu::attend(stream, attend);
  if (!traced) return;
  for (const Traced& t : step_->traced) {
    if (t.slice != &slice) continue;
    const size_t heads = static_cast<size_t>(config_.kv_heads) * step_->selections;
    CUDA_CHECK(cudaMemcpyAsync(step_->masks.data() + t.at, trace_.data() + t.from,
                               heads * t.blocks * sizeof(uint64_t), cudaMemcpyDeviceToHost,
                               stream));
  }
}

// A KV head's selections united, as positions; then what they are worth.
template <typename T>
void CudaAttention<T>::answer() {
  const Step& step = steps_[answered_++ % 2];
  const auto selections = static_cast<size_t>(step.selections);
  for (const Traced& t : step.traced) {
    for (size_t h = 0; h < static_cast<size_t>(config_.kv_heads); h++) {
      std::vector<int32_t>& out = t.lists[h];
      out.clear();
      for (size_t b = 0; b < t.blocks; b++) {
        uint64_t mask = 0;
        for (size_t s = 0; s < selections; s++)
          mask |= step.masks.data()[t.at + (h * selections + s) * t.blocks + b];
        for (; mask != 0; mask &= mask - 1)
          out.push_back(static_cast<int32_t>(b) * kBlockSize + __builtin_ctzll(mask));
      }
    }
  }
  for (const Probed& probed : step.probed)
    probed.probe->results[static_cast<size_t>(probed.layer * config_.kv_heads + probed.head)] =
        compare_with_mass(step.masses.data() + probed.at, probed.context,
                          config_.query_heads / config_.kv_heads, *probed.selected);
}

template class CudaAttention<__nv_bfloat16>;
template class CudaAttention<__half>;

}  // namespace spotlight
