#include <cmath>
#include <unordered_map>
#include <vector>

#include "attention/backend.h"
#include "attention/dense/gpu/cudnn_decode.h"
#include "device/cuda/runtime/cudnn.h"
#include "device/cuda/runtime/device_memory.h"

namespace spotlight::gpu {
namespace {

namespace fe = cudnn_frontend;

enum : int64_t { kQ = 1, kK, kV, kTables, kOnes, kContexts, kOut };

}  // namespace

struct CudnnDecode::State {
  bool paged = false;
  CudnnHandle handle{nullptr};
  fe::graph::Graph graph;
  DeviceBuffer<char> workspace;
  DeviceBuffer<int32_t> ones;  // queries a sequence
};

CudnnDecode::CudnnDecode(const CudnnShape& shape) : state_(std::make_unique<State>()) {
  State& state = *state_;
  state.paged = shape.layout == CudnnLayout::kPaged;
  const int64_t batch = shape.batch, heads = shape.query_heads, kv_heads = shape.kv_heads;
  const int64_t dim = shape.head_dim, context = shape.context;
  const std::vector<int64_t> row_dim = {batch, heads, 1, dim};
  const std::vector<int64_t> row_stride = {heads * dim, dim, dim, 1};
  // Both layouts are [n, kv_heads, rows, dim]: blocks of 64 tokens, or sequences.
  const int64_t rows = state.paged ? kBlockSize : context;
  const std::vector<int64_t> cache_dim = {state.paged ? shape.blocks : batch, kv_heads, rows, dim};
  const std::vector<int64_t> cache_stride = {kv_heads * rows * dim, rows * dim, dim, 1};

  fe::graph::Graph& graph = state.graph;
  graph.set_io_data_type(shape.half ? fe::DataType_t::HALF : fe::DataType_t::BFLOAT16)
      .set_intermediate_data_type(fe::DataType_t::FLOAT)
      .set_compute_data_type(fe::DataType_t::FLOAT);
  const auto tensor = [&](const char* name, int64_t uid, const std::vector<int64_t>& size,
                          const std::vector<int64_t>& stride) {
    return graph.tensor(
        fe::graph::Tensor_attributes().set_name(name).set_uid(uid).set_dim(size).set_stride(
            stride));
  };
  const auto numbers = [&](const char* name, int64_t uid, const std::vector<int64_t>& size,
                           const std::vector<int64_t>& stride) {
    return graph.tensor(fe::graph::Tensor_attributes()
                            .set_name(name)
                            .set_uid(uid)
                            .set_dim(size)
                            .set_stride(stride)
                            .set_data_type(fe::DataType_t::INT32));
  };
  auto attributes =
      fe::graph::SDPA_attributes().set_name("decode").set_generate_stats(false).set_attn_scale(
          1.f / std::sqrt(static_cast<float>(dim)));
  if (state.paged) {
    const int64_t pages = (context + kBlockSize - 1) / kBlockSize, stride = shape.table_stride;
    const auto tables = numbers("tables", kTables, {batch, 1, pages, 1}, {stride, stride, 1, 1});
    attributes.set_padding_mask(true)
        .set_seq_len_q(numbers("ones", kOnes, {batch, 1, 1, 1}, {1, 1, 1, 1}))
        .set_seq_len_kv(numbers("contexts", kContexts, {batch, 1, 1, 1}, {1, 1, 1, 1}))
        .set_paged_attention_k_table(tables)
        .set_paged_attention_v_table(tables)
        .set_paged_attention_max_seq_len_kv(static_cast<int>(context));
    const std::vector<int32_t> ones(static_cast<size_t>(batch), 1);
    state.ones = DeviceBuffer<int32_t>(ones.size());
    CUDA_CHECK(
        cudaMemcpy(state.ones.data(), ones.data(), state.ones.bytes(), cudaMemcpyHostToDevice));
  }
  auto [out, stats] =
      graph.sdpa(tensor("q", kQ, row_dim, row_stride), tensor("k", kK, cache_dim, cache_stride),
                 tensor("v", kV, cache_dim, cache_stride), attributes);
  out->set_output(true).set_uid(kOut).set_dim(row_dim).set_stride(row_stride);
  CUDNN_CHECK(graph.build(state.handle.get(), {fe::HeurMode_t::A}));
  int64_t bytes = 0;
  CUDNN_CHECK(graph.get_workspace_size(bytes));
  state.workspace = DeviceBuffer<char>(static_cast<size_t>(bytes));
}

CudnnDecode::~CudnnDecode() = default;

void CudnnDecode::attend(const void* k, const void* v, const int32_t* tables,
                         const int32_t* contexts, const void* q, void* out,
                         cudaStream_t stream) const {
  const State& state = *state_;
  std::unordered_map<int64_t, void*> tensors = {{kQ, const_cast<void*>(q)},
                                                {kK, const_cast<void*>(k)},
                                                {kV, const_cast<void*>(v)},
                                                {kOut, out}};
  if (state.paged) {
    tensors[kTables] = const_cast<int32_t*>(tables);
    tensors[kOnes] = state.ones.data();
    tensors[kContexts] = const_cast<int32_t*>(contexts);
  }
  state.handle.use(stream);
  CUDNN_CHECK(state.graph.execute(state.handle.get(), tensors, state.workspace.data()));
}

}  // namespace spotlight::gpu
