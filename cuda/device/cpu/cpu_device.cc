#include "device/cpu/cpu_device.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <new>

#include "attention/exact/quality.h"

namespace spotlight {
namespace {

constexpr size_t kMaxGraphs = 64;
// Weights that need no stacking are copied into huge pages, too, up to here: beyond, the second
// copy costs more than it brings.
constexpr size_t kMostCopied = size_t{2} << 30;
constexpr int32_t kHeadRows = 64;  // rows of logits in memory at once
constexpr uint32_t kPoll =
    20;  // of ggml's 0..100: threads wait some 20 ms for the next step before they sleep

std::string cpu_name() {
  std::ifstream info("/proc/cpuinfo");
  for (std::string line; std::getline(info, line);) {
    if (line.rfind("model name", 0) == 0) return line.substr(line.find(':') + 2);
  }
  return "CPU";
}

}  // namespace

void CpuDevice::AlignedFree::operator()(std::byte* memory) const { std::free(memory); }

CpuDevice::Aligned CpuDevice::aligned(size_t bytes) {
  Aligned memory(
      static_cast<std::byte*>(std::aligned_alloc(64, (std::max<size_t>(bytes, 1) + 63) / 64 * 64)));
  if (memory == nullptr)
    throw Error(kOutOfMemory, "no memory for " + std::to_string(bytes) + " bytes");
  return memory;
}

CpuDevice::CpuDevice(const DeviceOptions& options)
    : options_(options),
      name_(cpu_name()),
      isa_(select_isa(options.isa)),
      backend_(make_backend(options.backend, options.selectors)),
      rope_(rope_frequencies(options.config.rope, options.config.head_dim)) {
  const ModelConfig& config = options_.config;
  attention_.query_heads = config.query_heads;
  attention_.counters = options.counters;

  ggml_init_params params = {};
  params.mem_size = (static_cast<size_t>(config.layers) * 16 + 16) * ggml_tensor_overhead();
  params.no_alloc = true;
  weight_context_.reset(ggml_init(params));

  ggml_cpu_init();
  ggml_threadpool_params pool = ggml_threadpool_params_default(options_.threads);
  pool.poll = kPoll;
  pool_.reset(ggml_threadpool_new(&pool));
  allocator_.reset(ggml_gallocr_new(ggml_backend_cpu_buffer_type()));
  if (weight_context_ == nullptr || pool_ == nullptr || allocator_ == nullptr)
    throw Error(kOutOfMemory, "no memory for the CPU device");

  sampling_scratch_.resize(options_.threads);
  hidden_.resize(static_cast<size_t>(options_.max_tokens) * config.hidden);
  angles_.resize(static_cast<size_t>(options_.max_tokens) * config.head_dim);
}

CpuDevice::~CpuDevice() = default;

int32_t CpuDevice::open_pool(int32_t blocks) {
  if (blocks == 0)
    throw Error(kInvalidArgument, "blocks: give blocks or kvBytes, at least one block");
  arenas_ = std::make_unique<Arenas>(options_.config, blocks, options_.code_bits);
  attention_.arena = &arenas_->view();
  size_scratch();
  return blocks;
}

std::unique_ptr<Encoder> CpuDevice::make_encoder(const Artifact& artifact) const {
  return spotlight::make_encoder(artifact, options_.config.layers);
}

// What the kernels need depends on the encoders loaded, so it is sized anew with each.
void CpuDevice::size_scratch() {
  const int32_t context =
      std::min(options_.config.max_model_len, arenas_->view().blocks * kBlockSize);
  thread_scratch_.clear();
  for (int32_t i = 0; i < options_.threads; i++)
    thread_scratch_.push_back(aligned(backend_->thread_scratch(attention_, context)));
  team_scratch_ = aligned(backend_->team_scratch(attention_, options_.max_tokens, context));
}

void CpuDevice::set_encoder(int32_t plane, const Encoder* encoder) {
  attention_.encoders[plane] = encoder;
  size_scratch();
}

// --- Weights
// --------------------------------------------------------------------------------------------------------

bool CpuDevice::stackable(const std::vector<const WeightView*>& views) const {
  return std::all_of(views.begin(), views.end(), [&](const WeightView* view) {
    return view->ggml_type == views[0]->ggml_type && view->cols == views[0]->cols;
  });
}

Weight CpuDevice::load(const std::vector<const WeightView*>& views) {
  int64_t rows = 0, cols = views[0]->cols;
  for (const WeightView* view : views) rows += view->rows;
  const bool vector = views[0]->rows == 1;
  ggml_tensor* tensor = nullptr;
  if (vector) {
    // Gains and biases are a few kilobytes: f32 whatever the file has, as ggml's element-wise ops
    // want it.
    cols = 0;
    rows = 1;
    for (const WeightView* view : views) cols += view->cols;
    tensor = ggml_new_tensor_1d(weight_context_.get(), GGML_TYPE_F32, cols);
    tensor->data = weight_memory_.take(cols * sizeof(float));
    auto* out = static_cast<float*>(tensor->data);
    for (const WeightView* view : views) {
      const auto type = static_cast<ggml_type>(view->ggml_type);
      if (type == GGML_TYPE_F32) {
        std::memcpy(out, view->data, view->cols * sizeof(float));
      } else {
        ggml_get_type_traits(type)->to_float(view->data, out, view->cols);
      }
      out += view->cols;
    }
  } else {
    tensor = ggml_new_tensor_2d(weight_context_.get(), static_cast<ggml_type>(views[0]->ggml_type),
                                cols, rows);
    if (views.size() == 1 && weight_memory_.taken() + views[0]->bytes > kMostCopied) {
      tensor->data = const_cast<void*>(views[0]->data);
    } else {
      tensor->data = weight_memory_.take(ggml_nbytes(tensor));
      auto* out = static_cast<std::byte*>(tensor->data);
      for (const WeightView* view : views) {
        std::memcpy(out, view->data, view->bytes);
        out += view->bytes;
      }
    }
  }
  weights_.push_back(tensor);
  return {static_cast<int32_t>(weights_.size()) - 1, rows, cols};
}

// --- The pool
// -------------------------------------------------------------------------------------------------------

Team CpuDevice::team(int ith, int nth) {
  Team team;
  team.ith = ith;
  team.nth = nth;
  team.barrier = &barrier_;
  team.scratch = thread_scratch_[static_cast<size_t>(ith)].get();
  team.shared = team_scratch_.get();
  team.ticket = &ticket_;
  return team;
}

void CpuDevice::guard(const std::function<void()>& body) noexcept {
  try {
    body();
  } catch (...) {
    {
      const std::lock_guard<std::mutex> lock(fault_mutex_);
      if (fault_ == nullptr) fault_ = std::current_exception();
    }
    barrier_.break_up();  // those who wait for this thread would wait for ever
  }
}

void CpuDevice::compute(ggml_cgraph* graph, ggml_cplan& plan) {
  if (work_.size() < plan.work_size) work_.resize(plan.work_size);
  plan.work_data = work_.data();
  const ggml_status status = ggml_graph_compute(graph, &plan);
  if (fault_ != nullptr) {
    barrier_.mend();
    std::rethrow_exception(std::exchange(fault_, nullptr));
  }
  if (status != GGML_STATUS_SUCCESS)
    throw Error(kInternal, std::string("ggml: ") + ggml_status_to_string(status));
}

void CpuDevice::on_team(const std::function<void(Team&)>& body) {
  struct Call {
    CpuDevice* device;
    const std::function<void(Team&)>* body;
  } call = {this, &body};
  ggml_init_params params = {};
  params.mem_size = 4 * ggml_tensor_overhead() + ggml_graph_overhead_custom(4, false);
  params.no_alloc = true;
  const GgmlContext context(ggml_init(params));
  ggml_cgraph* graph = ggml_new_graph_custom(context.get(), 4, false);
  ggml_tensor* node = ggml_custom_4d(
      context.get(), GGML_TYPE_F32, 1, 1, 1, 1, nullptr, 0,
      [](ggml_tensor*, int ith, int nth, void* userdata) {
        const auto* self = static_cast<const Call*>(userdata);
        self->device->guard([&] {
          Team team = self->device->team(ith, nth);
          (*self->body)(team);
        });
      },
      GGML_N_TASKS_MAX, &call);
  float nothing = 0;
  node->data = &nothing;
  ggml_build_forward_expand(graph, node);
  ggml_cplan plan = ggml_graph_plan(graph, options_.threads, pool_.get());
  compute(graph, plan);
}

void CpuDevice::idle() { ggml_threadpool_pause(pool_.get()); }  // the next graph resumes it

void CpuDevice::rehash(int32_t plane, const int32_t* blocks, const int32_t* filled, int32_t count) {
  on_team([&](Team& team) { rehash_blocks(attention_, plane, blocks, filled, count, team); });
}

void CpuDevice::fill(const int32_t*, int32_t, uint64_t) {
  throw Error(kInvalidArgument, "fill: caches are filled on a GPU alone");
}

// --- A step
// ---------------------------------------------------------------------------------------------------------

CpuDevice::StepGraph& CpuDevice::graph_for(const Program& program, Shape shape) {
  for (auto it = graphs_.begin(); it != graphs_.end(); ++it) {
    if (it->first != shape) continue;
    graphs_.splice(graphs_.begin(), graphs_, it);
    return graphs_.front().second;
  }
  // All graphs share one block of memory, sized by the largest shape first; should one not fit, the
  // others' pointers are stale.
  const size_t before = ggml_gallocr_get_buffer_size(allocator_.get(), 0);
  if (before == 0 && shape != Shape{options_.max_tokens, options_.max_tokens}) {
    graph_for(program, {options_.max_tokens, options_.max_tokens});
    return graph_for(program, shape);
  }
  StepGraph made;
  made.graph = std::make_unique<CpuGraph>(*this, program, shape.first, shape.second);
  if (!ggml_gallocr_alloc_graph(allocator_.get(), made.graph->graph())) {
    throw Error(kOutOfMemory, "no memory for a step of " + std::to_string(shape.first) + " tokens");
  }
  if (ggml_gallocr_get_buffer_size(allocator_.get(), 0) != before) graphs_.clear();
  made.plan = ggml_graph_plan(made.graph->graph(), options_.threads, pool_.get());
  graphs_.emplace_front(shape, std::move(made));
  if (graphs_.size() > kMaxGraphs) graphs_.pop_back();
  return graphs_.front().second;
}

void CpuDevice::launch(const Program& program, const StepInput& step) {
  StepGraph& graph = graph_for(program, {step.count, step.selected_count});
  std::copy_n(step.tokens, step.count, graph.graph->token_ids());
  if (int32_t* selection = graph.graph->selection())
    std::copy_n(step.selected, step.selected_count, selection);
  rope_table(rope_, step.positions, step.count, angles_.data());
  step_ = &step;
  compute(graph.graph->graph(), graph.plan);
  if (step.selected_count > 0) run_head(graph.graph->head(), step);
  step_ = nullptr;
}

void CpuDevice::attend(int32_t layer, ggml_tensor* dst, int ith, int nth) {
  guard([&] {
    const ModelConfig& config = options_.config;
    const ggml_tensor *q = dst->src[0], *k = dst->src[1], *v = dst->src[2];
    LayerIo io;
    io.layer = layer;
    io.q = static_cast<const float*>(q->data);
    io.k = static_cast<const float*>(k->data);
    io.v = static_cast<const float*>(v->data);
    io.out = static_cast<float*>(dst->data);
    io.q_stride = static_cast<int64_t>(q->nb[1] / sizeof(float));
    io.k_stride = static_cast<int64_t>(k->nb[1] / sizeof(float));
    io.v_stride = static_cast<int64_t>(v->nb[1] / sizeof(float));
    io.out_stride = static_cast<int64_t>(dst->nb[1] / sizeof(float));
    // In place: nothing else reads q and k.
    for (int32_t t = ith; t < step_->count; t += nth) {
      const float* angles = angles_.data() + static_cast<size_t>(t) * config.head_dim;
      rope_rotate(static_cast<float*>(q->data) + t * io.q_stride, config.query_heads,
                  config.head_dim, angles);
      rope_rotate(static_cast<float*>(k->data) + t * io.k_stride, config.kv_heads, config.head_dim,
                  angles);
    }
    Team members = team(ith, nth);
    members.meet();
    if (options_.tap != nullptr) options_.tap->attending(io, step_->count, ith, nth);
    backend_->append(attention_, io, step_->rows, step_->row_count, members);
    backend_->attend(attention_, io, step_->rows, step_->row_count, members);
    const RowView* rows = step_->rows;
    if (std::none_of(rows, rows + step_->row_count, [](const RowView& row) { return row.quality; }))
      return;
    members.meet();  // for the traces
    measure_quality(attention_, io, rows, step_->row_count, members);
  });
}

// --- Logits
// ---------------------------------------------------------------------------------------------------------

CpuDevice::HeadGraph& CpuDevice::head_for(Weight head, int32_t rows) {
  const auto found = heads_.find(rows);
  if (found != heads_.end()) return found->second;
  HeadGraph made;
  ggml_init_params params = {};
  params.mem_size = 8 * ggml_tensor_overhead() + ggml_graph_overhead_custom(8, false);
  params.no_alloc = true;
  made.context.reset(ggml_init(params));
  made.graph = ggml_new_graph_custom(made.context.get(), 8, false);
  made.input = ggml_new_tensor_2d(made.context.get(), GGML_TYPE_F32, options_.config.hidden, rows);
  ggml_tensor* product = ggml_mul_mat(made.context.get(), weight(head), made.input);
  logits_.resize(std::max(logits_.size(), static_cast<size_t>(rows) * options_.config.vocab));
  ggml_tensor* tasks = ggml_custom_inplace(
      made.context.get(), product, nullptr, 0,
      [](ggml_tensor* dst, int ith, int nth, void* userdata) {
        static_cast<CpuDevice*>(userdata)->run_tasks(static_cast<float*>(dst->data),
                                                     static_cast<int32_t>(dst->ne[1]), ith, nth);
      },
      GGML_N_TASKS_MAX, this);
  ggml_build_forward_expand(made.graph, tasks);
  made.plan = ggml_graph_plan(made.graph, options_.threads, pool_.get());
  return heads_.emplace(rows, std::move(made)).first->second;
}

void CpuDevice::run_head(Weight head, const StepInput& step) {
  for (int32_t from = 0; from < step.selected_count; from += kHeadRows) {
    const int32_t rows = std::min(kHeadRows, step.selected_count - from);
    HeadGraph& graph = head_for(head, rows);
    graph.input->data = hidden_.data() + static_cast<size_t>(from) * options_.config.hidden;
    // Set anew each time: growing logits_ for more rows moves it.
    for (int i = 0; i < ggml_graph_n_nodes(graph.graph); i++)
      ggml_graph_node(graph.graph, i)->data = logits_.data();
    tasks_ = step.tasks + from;
    next_task_.store(0, std::memory_order_relaxed);
    compute(graph.graph, graph.plan);
  }
}

void CpuDevice::run_tasks(const float* logits, int32_t rows, int ith, int) {
  guard([&] {
    const int32_t vocab = options_.config.vocab;
    for (int32_t row = next_task_.fetch_add(1); row < rows; row = next_task_.fetch_add(1)) {
      run_logits_task(const_cast<float*>(logits) + static_cast<size_t>(row) * vocab, vocab,
                      tasks_[row], sampling_scratch_[static_cast<size_t>(ith)]);
    }
  });
}

std::unique_ptr<Device> make_cpu_device(const DeviceOptions& options) {
  return std::make_unique<CpuDevice>(options);
}

}  // namespace spotlight
