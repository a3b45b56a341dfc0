#include "device/cpu/graph.h"

#include "device/cpu/cpu_device.h"

namespace spotlight {
namespace {

void attend_node(ggml_tensor* dst, int ith, int nth, void* userdata) {
  const auto* node = static_cast<const AttendNode*>(userdata);
  node->device->attend(node->layer, dst, ith, nth);
}

size_t node_limit(const ModelConfig& config) {
  return static_cast<size_t>(config.layers) * 32 + 64;
}

}  // namespace

CpuGraph::CpuGraph(CpuDevice& device, const Program& program, int32_t tokens, int32_t selected)
    : device_(device), tokens_(tokens), selected_(selected) {
  const size_t nodes = node_limit(device.config());
  ggml_init_params params = {};
  params.mem_size = nodes * ggml_tensor_overhead() + ggml_graph_overhead_custom(nodes, false);
  params.no_alloc = true;
  context_.reset(ggml_init(params));
  if (context_ == nullptr) throw Error(kOutOfMemory, "no memory to record a step");
  graph_ = ggml_new_graph_custom(context_.get(), nodes, false);
  program.record(*this);
}

Value CpuGraph::keep(ggml_tensor* tensor) {
  values_.push_back(tensor);
  return {static_cast<int32_t>(values_.size()) - 1};
}

Value CpuGraph::embed(Weight table) {
  ids_ = ggml_new_tensor_1d(context_.get(), GGML_TYPE_I32, tokens_);
  ggml_set_input(ids_);
  return keep(ggml_get_rows(context_.get(), device_.weight(table), ids_));
}

Value CpuGraph::rms_norm(Value x, Weight gain) {
  ggml_tensor* normed = ggml_rms_norm(context_.get(), tensor(x), device_.config().rms_norm_eps);
  return keep(ggml_mul(context_.get(), normed, device_.weight(gain)));
}

Value CpuGraph::head_norm(Value x, Weight gain) {
  ggml_tensor* rows = tensor(x);
  const int64_t head_dim = device_.config().head_dim;
  const int64_t heads = rows->ne[0] / head_dim;
  ggml_tensor* split = ggml_view_3d(context_.get(), rows, head_dim, heads, rows->ne[1],
                                    head_dim * sizeof(float), rows->nb[1], 0);
  ggml_tensor* normed = ggml_rms_norm(context_.get(), split, device_.config().rms_norm_eps);
  ggml_tensor* scaled = ggml_mul(context_.get(), normed, device_.weight(gain));
  return keep(ggml_reshape_2d(context_.get(), scaled, head_dim * heads, rows->ne[1]));
}

Value CpuGraph::matmul(Value x, Weight weight, Weight bias) {
  ggml_tensor* product = ggml_mul_mat(context_.get(), device_.weight(weight), tensor(x));
  if (bias) product = ggml_add(context_.get(), product, device_.weight(bias));
  return keep(product);
}

Value CpuGraph::columns(Value x, int64_t from, int64_t count) {
  ggml_tensor* rows = tensor(x);
  return keep(ggml_view_2d(context_.get(), rows, count, rows->ne[1], rows->nb[1],
                           static_cast<size_t>(from) * sizeof(float)));
}

Value CpuGraph::silu_mul(Value gate, Value up) {
  return keep(ggml_swiglu_split(context_.get(), tensor(gate), tensor(up)));
}

Value CpuGraph::add(Value a, Value b) {
  return keep(ggml_add(context_.get(), tensor(a), tensor(b)));
}

Value CpuGraph::attend(int32_t layer, Value q, Value k, Value v) {
  attends_.push_back({&device_, layer});
  ggml_tensor* sources[] = {tensor(q), tensor(k), tensor(v)};
  ggml_tensor* out =
      ggml_custom_4d(context_.get(), GGML_TYPE_F32, device_.config().query_width(), tokens_, 1, 1,
                     sources, 3, attend_node, GGML_N_TASKS_MAX, &attends_.back());
  // It writes the cache, so it runs although nothing may read what it returns.
  ggml_build_forward_expand(graph_, out);
  return keep(out);
}

Value CpuGraph::select(Value x) {
  if (selected_ == tokens_) return x;
  if (selection_ == nullptr) {
    selection_ = ggml_new_tensor_1d(context_.get(), GGML_TYPE_I32, selected_);
    ggml_set_input(selection_);
  }
  return keep(ggml_get_rows(context_.get(), tensor(x), selection_));
}

void CpuGraph::logits(Value x, Weight head) {
  head_ = head;
  tensor(x)->data =
      device_
          .selected_hidden();  // outlives this graph's own memory: the head runs over it in chunks
  ggml_build_forward_expand(graph_, tensor(x));
}

}  // namespace spotlight
