#include "device/cuda/runtime/cudnn.h"

#include <cuda_fp16.h>

#include <memory>
#include <unordered_map>
#include <vector>

#include "device/cuda/runtime/device_memory.h"
#include "device/cuda/runtime/gpu_test.h"
#include "error.h"
#include "test/check.h"

namespace spotlight {
namespace {

namespace fe = cudnn_frontend;

// Attention over keys that are all alike is the mean of the values: a graph through plan, workspace
// and execution, exact enough to know without a reference of its own.
TEST(an_attention_graph_runs) {
  check::need_gpu();
  constexpr int64_t heads = 2, tokens = 128, dim = 64;
  const size_t count = heads * tokens * dim;
  std::vector<__half> q(count), k(count), v(count), out(count);
  for (size_t i = 0; i < count; i++) {
    q[i] = __float2half(static_cast<float>(i % 7) - 3);
    k[i] = __float2half(static_cast<float>(i % dim % 5) * 0.25f);
    v[i] = __float2half(static_cast<float>(i / dim % tokens) / 64);
  }
  DeviceBuffer<__half> device_q(count), device_k(count), device_v(count), device_out(count);
  CUDA_CHECK(cudaMemcpy(device_q.data(), q.data(), device_q.bytes(), cudaMemcpyHostToDevice));
  CUDA_CHECK(cudaMemcpy(device_k.data(), k.data(), device_k.bytes(), cudaMemcpyHostToDevice));
  CUDA_CHECK(cudaMemcpy(device_v.data(), v.data(), device_v.bytes(), cudaMemcpyHostToDevice));

  const CudnnHandle handle(nullptr);
  fe::graph::Graph graph;
  graph.set_io_data_type(fe::DataType_t::HALF)
      .set_intermediate_data_type(fe::DataType_t::FLOAT)
      .set_compute_data_type(fe::DataType_t::FLOAT);
  const auto tensor = [&](const char* name, int64_t uid) {
    return graph.tensor(fe::graph::Tensor_attributes()
                            .set_name(name)
                            .set_uid(uid)
                            .set_dim({1, heads, tokens, dim})
                            .set_stride({heads * tokens * dim, tokens * dim, dim, 1}));
  };
  auto [result, stats] = graph.sdpa(
      tensor("q", 1), tensor("k", 2), tensor("v", 3),
      fe::graph::SDPA_attributes().set_name("sdpa").set_generate_stats(false).set_attn_scale(
          0.125f));
  result->set_output(true)
      .set_uid(4)
      .set_dim({1, heads, tokens, dim})
      .set_stride({heads * tokens * dim, tokens * dim, dim, 1});
  CUDNN_CHECK(graph.build(handle.get(), {fe::HeurMode_t::A}));
  int64_t workspace_bytes = 0;
  CUDNN_CHECK(graph.get_workspace_size(workspace_bytes));
  const DeviceBuffer<char> workspace(static_cast<size_t>(workspace_bytes));
  std::unordered_map<int64_t, void*> tensors = {
      {1, device_q.data()}, {2, device_k.data()}, {3, device_v.data()}, {4, device_out.data()}};
  CUDNN_CHECK(graph.execute(handle.get(), tensors, workspace.data()));
  CUDA_CHECK(cudaDeviceSynchronize());
  CUDA_CHECK(cudaMemcpy(out.data(), device_out.data(), device_out.bytes(), cudaMemcpyDeviceToHost));
  std::vector<float> actual(count);
  for (size_t i = 0; i < count; i++) actual[i] = __half2float(out[i]);
  CHECK_CLOSE(actual, std::vector<float>(count, (tokens - 1) / 128.0f), 2e-3, 0);
}

TEST(what_the_frontend_refuses_is_said) {
  check::need_gpu();
  const CudnnHandle handle(nullptr);
  fe::graph::Graph graph;
  CHECK_THROWS(CUDNN_CHECK(graph.build(handle.get(), {fe::HeurMode_t::A})), "INTERNAL",
               "cuDNN: graph.build");
}

}  // namespace
}  // namespace spotlight
