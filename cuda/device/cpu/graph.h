// One step's shape recorded as a ggml graph: what the CPU device keeps and runs again for every
// step of the same shape. Only pointers change between runs (token ids, the step's rows): a decode
// step rebuilds nothing.
#pragma once

#include <ggml-alloc.h>
#include <ggml-cpu.h>
#include <ggml.h>

#include <cstdint>
#include <deque>
#include <memory>
#include <vector>

#include "device/device.h"

namespace spotlight {

class CpuDevice;

struct GgmlFree {
  void operator()(ggml_context* context) const { ggml_free(context); }
  void operator()(ggml_gallocr* allocator) const { ggml_gallocr_free(allocator); }
  void operator()(ggml_threadpool* pool) const { ggml_threadpool_free(pool); }
};
using GgmlContext = std::unique_ptr<ggml_context, GgmlFree>;

// What the attend node of one layer needs when ggml calls it back.
struct AttendNode {
  CpuDevice* device = nullptr;
  int32_t layer = 0;
};

class CpuGraph final : public Recorder {
 public:
  // Records the program for `tokens` packed tokens of which `selected` need logits.
  CpuGraph(CpuDevice& device, const Program& program, int32_t tokens, int32_t selected);

  Value embed(Weight table) override;
  Value rms_norm(Value x, Weight gain) override;
  Value head_norm(Value x, Weight gain) override;
  Value matmul(Value x, Weight weight, Weight bias) override;
  Value columns(Value x, int64_t from, int64_t count) override;
  Value silu_mul(Value gate, Value up) override;
  Value add(Value a, Value b) override;
  Value attend(int32_t layer, Value q, Value k, Value v) override;
  Value select(Value x) override;
  int32_t selected() const override { return selected_; }
  void logits(Value x, Weight head) override;

  ggml_cgraph* graph() { return graph_; }
  int32_t tokens() const { return tokens_; }
  // Inputs to fill before a run; null when the graph does not read them.
  int32_t* token_ids() { return ids_ != nullptr ? static_cast<int32_t*>(ids_->data) : nullptr; }
  int32_t* selection() {
    return selection_ != nullptr ? static_cast<int32_t*>(selection_->data) : nullptr;
  }
  Weight head() const { return head_; }

 private:
  Value keep(ggml_tensor* tensor);
  ggml_tensor* tensor(Value value) const { return values_.at(static_cast<size_t>(value.id)); }

  CpuDevice& device_;
  int32_t tokens_, selected_;
  GgmlContext context_;
  ggml_cgraph* graph_ = nullptr;
  ggml_tensor* ids_ = nullptr;
  ggml_tensor* selection_ = nullptr;
  Weight head_;
  std::vector<ggml_tensor*> values_;
  std::deque<AttendNode> attends_;  // stable addresses: ggml holds pointers to them
};

}  // namespace spotlight
