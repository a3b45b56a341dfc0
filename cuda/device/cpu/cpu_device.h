// The CPU device: ggml's kernels on native quantised types, attention as one custom node a layer,
// and one persistent thread pool that polls between steps and sleeps when idle. The thread that
// calls run() is the pool's first thread.
#pragma once

#include <atomic>
#include <exception>
#include <functional>
#include <list>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "device/cpu/graph.h"
#include "device/cpu/huge_memory.h"
#include "device/device.h"
#include "error.h"
#include "kv/arenas.h"
#include "model/rope.h"

namespace spotlight {

class CpuDevice final : public Device {
 public:
  explicit CpuDevice(const DeviceOptions& options);
  ~CpuDevice() override;

  const std::string& name() const override { return name_; }
  const std::string& isa() const override { return isa_; }
  int32_t threads() const override { return options_.threads; }
  Weight load(const std::vector<const WeightView*>& views) override;
  bool stackable(const std::vector<const WeightView*>& views) const override;
  int32_t open_pool(int32_t blocks) override;
  int32_t depth() const override { return 1; }
  void launch(const Program& program, const StepInput& step) override;
  bool finished() override { return true; }
  void finish() override {}
  void idle() override;
  std::unique_ptr<Encoder> make_encoder(const Artifact& artifact) const override;
  void copy_block(int32_t from, int32_t to) override { arenas_->copy_block(from, to); }
  void set_encoder(int32_t plane, const Encoder* encoder) override;
  void rehash(int32_t plane, const int32_t* blocks, const int32_t* filled, int32_t count) override;
  void fill(const int32_t* blocks, int32_t count, uint64_t seed) override;

  // For the graphs.
  const ModelConfig& config() const { return options_.config; }
  ggml_tensor* weight(Weight weight) const { return weights_.at(static_cast<size_t>(weight.id)); }
  float* selected_hidden() { return hidden_.data(); }
  // The attend node of one layer, called by every thread of the pool.
  void attend(int32_t layer, ggml_tensor* dst, int ith, int nth);

 private:
  struct AlignedFree {
    void operator()(std::byte* memory) const;
  };
  using Aligned = std::unique_ptr<std::byte, AlignedFree>;
  static Aligned aligned(size_t bytes);
  void size_scratch();
  // A graph of the head for some number of rows: logits, then each row's task.
  struct HeadGraph {
    GgmlContext context;
    ggml_cgraph* graph = nullptr;
    ggml_tensor* input = nullptr;
    ggml_cplan plan;
  };
  struct StepGraph {
    std::unique_ptr<CpuGraph> graph;
    ggml_cplan plan;
  };
  using Shape = std::pair<int32_t, int32_t>;  // tokens, selected

  StepGraph& graph_for(const Program& program, Shape shape);
  HeadGraph& head_for(Weight head, int32_t rows);
  void run_head(Weight head, const StepInput& step);
  void run_tasks(const float* logits, int32_t rows, int ith, int nth);
  void compute(ggml_cgraph* graph, ggml_cplan& plan);
  // Runs body on every thread of the pool at once.
  void on_team(const std::function<void(Team&)>& body);
  Team team(int ith, int nth);
  // What an op threw may not cross ggml's C frames: kept here, thrown again by compute().
  void guard(const std::function<void()>& body) noexcept;

  DeviceOptions options_;
  std::string name_, isa_;
  std::unique_ptr<Arenas> arenas_;
  std::unique_ptr<Backend> backend_;
  AttentionContext attention_;
  RopeFrequencies rope_;

  GgmlContext weight_context_;
  std::vector<ggml_tensor*> weights_;
  HugeMemory weight_memory_;

  std::unique_ptr<ggml_threadpool, GgmlFree> pool_;
  std::unique_ptr<ggml_gallocr, GgmlFree> allocator_;
  std::list<std::pair<Shape, StepGraph>> graphs_;  // most recently used first
  std::map<int32_t, HeadGraph> heads_;
  std::vector<uint8_t> work_;

  SpinBarrier barrier_;
  std::atomic<int32_t> ticket_{0};
  std::vector<Aligned> thread_scratch_;
  Aligned team_scratch_;
  std::vector<SamplingScratch> sampling_scratch_;

  // Of the step in hand.
  const StepInput* step_ = nullptr;
  std::vector<float> angles_;  // [tokens, head_dim]
  std::vector<float> hidden_;  // [selected, hidden]
  std::vector<float> logits_;  // [rows of a head graph, vocab]
  LogitsTask* tasks_ = nullptr;
  std::atomic<int32_t> next_task_{0};
  std::mutex fault_mutex_;
  std::exception_ptr fault_;
};

}  // namespace spotlight
