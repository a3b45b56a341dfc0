#include "device/cuda/cuda_device.h"

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <algorithm>
#include <cstdlib>

#include "attention/gpu/retrieval.h"
#include "attention/spotlight/rehash/rehash.h"
#include "device/cuda/fill.h"
#include "device/cuda/ops.h"
#include "device/cuda/step_shape.h"
#include "error.h"
#include "kv/arenas.h"

namespace spotlight {
namespace {

constexpr int32_t kListed = 4096;  // blocks of one launch of rehash
// Rows behind the arena that a product of padded rows may read (and throw away).
constexpr int64_t kSlackRows = 64;

template <typename T>
constexpr Dtype dtype_of() {
  return std::is_same_v<T, __half> ? Dtype::kFp16 : Dtype::kBf16;
}

void want_multiple(int32_t value, const char* field) {
  if (value % 8 != 0)
    throw Error(kModelUnsupported, std::string(field) + " is " + std::to_string(value) +
                                       ", a GPU takes multiples of 8");
}

// Activations alive at once, in values a token: what the forward pass of transformer.h never
// exceeds. Tape says what it really takes.
int64_t activation_width(const ModelConfig& config) {
  return 4 * int64_t{config.hidden} + 3 * int64_t{config.intermediate} +
         2 * int64_t{config.query_width()} + 2 * int64_t{config.kv_width()} + 8 * 128;
}

int lowest_priority() {
  int lowest = 0, highest = 0;
  CUDA_CHECK(cudaDeviceGetStreamPriorityRange(&lowest, &highest));
  return lowest;
}
int highest_priority() {
  int lowest = 0, highest = 0;
  CUDA_CHECK(cudaDeviceGetStreamPriorityRange(&lowest, &highest));
  return highest;
}

}  // namespace

template <typename T>
CudaDevice<T>::CudaDevice(const DeviceOptions& options, bool graphs)
    : options_(options),
      with_graphs_(graphs),
      stream_(highest_priority()),
      background_(lowest_priority()),
      weights_(dtype_of<T>(), options.stream_weights, options.config.vocab),
      matmul_(std::make_unique<Matmul>(dtype_of<T>())),
      most_tokens_(padded(options.max_tokens)),
      most_rows_(padded(std::min(options.max_sequences, options.max_tokens))),
      tables_(options.max_sequences, (options.config.max_model_len + kBlockSize - 1) / kBlockSize),
      listed_(2 * kListed) {
  const ModelConfig& config = options_.config;
  want_multiple(config.hidden, "hidden_size");
  want_multiple(config.intermediate, "intermediate_size");
  cudaDeviceProp properties = {};
  int device = 0;
  CUDA_CHECK(cudaGetDevice(&device));
  CUDA_CHECK(cudaGetDeviceProperties(&properties, device));
  name_ = properties.name;
  isa_ = "sm_" + std::to_string(properties.major) + std::to_string(properties.minor);
  multiprocessors_ = properties.multiProcessorCount;
  capability_ = std::min(10 * properties.major + properties.minor, gpu::compiled_capability());
  gpu::RetrievalShape shape;  // throws for heads the kernels do not take, before weights are read
  shape.query_heads = config.query_heads;
  shape.kv_heads = config.kv_heads;
  shape.head_dim = config.head_dim;
  gpu::workspace_bytes(shape);
  if (const char* steps = std::getenv("SPOTLIGHT_CUDA_FAULT_AFTER"))
    fault_after_ = std::atoll(steps);
}

template <typename T>
CudaDevice<T>::~CudaDevice() {
  cudaStreamSynchronize(stream_.get());
  cudaStreamSynchronize(background_.get());
}

template <typename T>
bool CudaDevice<T>::stackable(const std::vector<const WeightView*>& views) const {
  return std::all_of(views.begin(), views.end(),
                     [&](const WeightView* view) { return view->cols == views[0]->cols; });
}

template <typename T>
int32_t CudaDevice<T>::open_pool(int32_t blocks) {
  weights_.loaded();
  const ModelConfig& config = options_.config;
  const size_t one = block_bytes(config, options_.code_bits);
  AttentionLimits limits;
  limits.rows = most_rows_;
  limits.tokens = most_tokens_;
  limits.seats = tables_.seats();
  limits.table_stride = tables_.stride();
  const auto fit = static_cast<int32_t>(std::min<size_t>(
      static_cast<size_t>(static_cast<double>(free_device_bytes()) * kPoolShare) / one, INT32_MAX));
  limits.blocks = blocks > 0 ? std::min(blocks, fit) : fit;
  limits.multiprocessors = multiprocessors_;
  limits.capability = capability_;
  attention_ = std::make_unique<CudaAttention<T>>(options_, limits);
  logits_ =
      std::make_unique<CudaLogits<T>>(config.vocab, most_rows_, most_tokens_, tables_.seats());
  arena_ =
      DeviceBuffer<T>(static_cast<size_t>((most_tokens_ + kSlackRows) * activation_width(config)));
  CUDA_CHECK(cudaMemset(arena_.data(), 0, arena_.bytes()));

  // Packed tokens, their draws, and a query and its shares a token in every layer.
  const size_t token = 6 * sizeof(int32_t) + sizeof(gpu::DrawRow);
  const size_t query = sizeof(gpu::Query) + 2 * sizeof(gpu::QueryShare) + 2 * sizeof(int32_t);
  image_ = std::make_unique<StepImage>(static_cast<size_t>(most_tokens_ + 4) *
                                           (token + static_cast<size_t>(config.layers) * query) +
                                       (size_t{64} << 10));
  for (TableImage& image : table_images_) {
    image.runs = PinnedBuffer<gpu::TableRun>(static_cast<size_t>(tables_.seats()));
    image.entries = PinnedBuffer<int32_t>(static_cast<size_t>(tables_.seats()) *
                                          static_cast<size_t>(tables_.stride()));
  }
  pool_ = std::make_unique<CachePool>(config, blocks, options_.code_bits);
  attention_->open(*pool_);
  return pool_->blocks();
}

// --- Artifacts and blocks
// -------------------------------------------------------------------------------------------

template <typename T>
std::unique_ptr<Encoder> CudaDevice<T>::make_encoder(const Artifact& artifact) const {
  return std::make_unique<CudaEncoder>(artifact, options_.config.layers, attention_->retrieval());
}

template <typename T>
void CudaDevice<T>::set_encoder(int32_t plane, const Encoder* encoder) {
  attention_->set_encoder(plane, static_cast<const CudaEncoder*>(encoder), stream_.get());
}

template <typename T>
void CudaDevice<T>::copy_block(int32_t from, int32_t to) {
  pool_->copy_block(from, to, stream_.get());
}

template <typename T>
void CudaDevice<T>::rehash(int32_t plane, const int32_t* blocks, const int32_t* filled,
                           int32_t count) {
  if (attention_->retrieval() == nullptr) return;
  // Behind the steps launched so far, which may still be writing these keys.
  const CudaEvent written;
  CUDA_CHECK(cudaEventRecord(written.get(), stream_.get()));
  CUDA_CHECK(cudaStreamWaitEvent(background_.get(), written.get(), 0));
  for (int32_t from = 0; from < count; from += kListed) {
    const int32_t some = std::min(kListed, count - from);
    const size_t bytes = static_cast<size_t>(some) * sizeof(int32_t);
    CUDA_CHECK(cudaMemcpyAsync(listed_.data(), blocks + from, bytes, cudaMemcpyHostToDevice,
                               background_.get()));
    CUDA_CHECK(cudaMemcpyAsync(listed_.data() + kListed, filled + from, bytes,
                               cudaMemcpyHostToDevice, background_.get()));
    for (int32_t l = 0; l < options_.config.layers; l++) {
      gpu::RehashOp<T> op;
      op.cache = pool_->layer<T>(l);
      op.encoders = attention_->encoders(l);
      op.plane = plane;
      op.blocks = listed_.data();
      op.filled = listed_.data() + kListed;
      op.count = some;
      gpu::rehash(background_.get(), op);
    }
  }
  CUDA_CHECK(cudaStreamSynchronize(background_.get()));
}

template <typename T>
void CudaDevice<T>::fill(const int32_t* blocks, int32_t count, uint64_t seed) {
  const CacheFiller<T> filler(options_.config);
  for (int32_t l = 0; l < options_.config.layers; l++)
    filler.fill(pool_->layer<T>(l),
                attention_->retrieval() != nullptr ? attention_->encoders(l) : nullptr, l, blocks,
                count, seed, stream_.get());
  CUDA_CHECK(cudaStreamSynchronize(stream_.get()));
}

// --- A step
// ---------------------------------------------------------------------------------------------------------

template <typename T>
const Tape& CudaDevice<T>::tape(const Program& program, Selection selection) {
  if (program_ != &program) {
    for (auto& tape : tapes_) tape.reset();
    graphs_.clear();
    program_ = &program;
  }
  std::unique_ptr<Tape>& tape = tapes_[static_cast<size_t>(selection)];
  if (tape == nullptr) {
    auto made = std::make_unique<Tape>(program, options_.config, most_tokens_, selection);
    if (made->arena() + kSlackRows * options_.config.hidden > static_cast<int64_t>(arena_.size()))
      throw Error(kInternal, "a step's activations take " + std::to_string(made->arena()) +
                                 " values, " + std::to_string(arena_.size()) + " are set aside");
    tape = std::move(made);
  }
  return *tape;
}

template <typename T>
void CudaDevice<T>::launch(const Program& program, const StepInput& step) {
  if (launched_ - finished_ >= kDepth)
    throw Error(kInternal, "two steps are in flight: finish one first");
  if (step.count > most_tokens_)
    throw Error(kInternal, "a step of " + std::to_string(step.count) + " tokens, the device has " +
                               "room for " + std::to_string(most_tokens_));
  inject_fault();
  const bool decode = step.row_count <= most_rows_ &&
                      std::all_of(step.rows, step.rows + step.row_count,
                                  [](const RowView& row) { return row.tokens == 1; });
  const Selection selection = step.selected_count == 0            ? Selection::kNone
                              : step.selected_count == step.count ? Selection::kAll
                                                                  : Selection::kSome;
  const Tape& ops = tape(program, selection);
  describe(step, decode);
  update_tables(step);
  attention_->plan_dense(stream_.get());
  const bool captured =
      with_graphs_ && decode && attention_->capturable() && selection != Selection::kSome;
  if (captured) {
    if (generation_ != attention_->generation()) graphs_.clear();
    generation_ = attention_->generation();
    graphs_.run({count_, selected_ > 0, logits_->cuts(), attention_->pattern()}, stream_.get(),
                [&] { run(ops, true); });
  } else {
    run(ops, false);
  }
  if (selected_ > 0) {
    if (captured) logits_->keep_scored(0, wanted_, stream_.get());
    logits_->send(stream_.get());
  }
  CUDA_CHECK(cudaEventRecord(done_[launched_ % kDepth].get(), stream_.get()));
  launched_++;
}

// Fills the step's image and sends it. Pieces whose sizes follow from the kind of the step come
// first: a graph finds them where it found them when it was captured.
template <typename T>
void CudaDevice<T>::describe(const StepInput& step, bool decode) {
  count_ = padded(step.count);
  wanted_ = step.selected_count;
  const bool all = wanted_ == step.count;
  selected_ = wanted_ == 0 ? 0 : all ? count_ : padded(wanted_);
  const auto tokens = static_cast<size_t>(count_);
  image_->begin();
  const auto ids = image_->take<int32_t>(tokens), feeds = image_->take<int32_t>(tokens),
             positions = image_->take<int32_t>(tokens), seats = image_->take<int32_t>(tokens);
  std::copy_n(step.tokens, step.count, ids.host);
  std::copy_n(step.positions, step.count, positions.host);
  if (step.feeds != nullptr) {
    std::copy_n(step.feeds, step.count, feeds.host);
  } else {
    std::fill_n(feeds.host, step.count, -1);
  }
  for (int32_t i = 0; i < step.row_count; i++)
    std::fill_n(seats.host + step.rows[i].first, step.rows[i].tokens, step.rows[i].seat);
  for (int32_t i = step.count; i < count_; i++) {
    ids.host[i] = positions.host[i] = 0;
    feeds.host[i] = seats.host[i] = -1;
  }
  ids_ = ids.device;
  feeds_ = feeds.device;
  if (selected_ > 0 && !all) {
    const auto index = image_->take<int32_t>(static_cast<size_t>(selected_));
    std::copy_n(step.selected, wanted_, index.host);
    std::fill(index.host + wanted_, index.host + selected_, 0);
    index_ = index.device;
  }
  attention_->prepare(step, count_, decode, positions.device, seats.device, *image_);
  if (logits_->prepare(step.tasks, wanted_, selected_, *image_, stream_.get())) graphs_.clear();
  image_->send(stream_.get());
}

template <typename T>
void CudaDevice<T>::update_tables(const StepInput& step) {
  const TableImage& image = table_images_[launched_ % kDepth];
  const BlockTables::Update update =
      tables_.collect(step.rows, step.row_count, image.runs.data(), image.entries.data());
  if (update.runs > 0)
    gpu::update_tables(image.runs.data(), update.runs, image.entries.data(), update.longest,
                       attention_->tables(), tables_.stride(), stream_.get());
}

template <typename T>
gpu::Rows<T> CudaDevice<T>::rows(const Tape& tape, int32_t value) const {
  const TapeValue& v = tape.value(value);
  const TapeBuffer& buffer = tape.buffer(v.buffer);
  return {arena_.data() + buffer.offset + v.column, buffer.columns, v.columns};
}

template <typename T>
void CudaDevice<T>::multiply(gpu::Rows<T> x, Weight weight, Weight bias, int32_t count,
                             gpu::Rows<T> out) {
  matmul_->run({reinterpret_cast<const uint16_t*>(x.data), x.stride, x.columns},
               weights_.ready(weight, stream_.get()), weight.rows,
               bias ? weights_.at(bias) : nullptr, count,
               {reinterpret_cast<uint16_t*>(out.data), out.stride, out.columns}, stream_.get());
}

template <typename T>
void CudaDevice<T>::run(const Tape& tape, bool captured) {
  const cudaStream_t stream = stream_.get();
  const gpu::Queue queue{stream, capability_ >= 90};
  const float epsilon = options_.config.rms_norm_eps;
  attention_->begin(stream);
  for (const TapeOp& op : tape.ops()) {
    const auto in = [&](int i) { return rows(tape, op.in[i]); };
    const auto out = [&] { return rows(tape, op.out); };
    const int32_t first = op.in[0] >= 0 ? op.in[0] : op.out;
    const int32_t count =
        tape.value(first).selected || op.kind == OpKind::kSelect ? selected_ : count_;
    switch (op.kind) {
      case OpKind::kEmbed:
        gpu::embed(weight(op.weight), ids_, feeds_, logits_->last_draws(), count, out(), queue);
        break;
      case OpKind::kRmsNorm:
        gpu::rms_norm(in(0), weight(op.weight), epsilon, count, out(), queue);
        break;
      case OpKind::kAddRmsNorm:
        gpu::add_rms_norm(in(0), in(1), weight(op.weight), epsilon, count, queue);
        break;
      case OpKind::kHeadNorm:
        gpu::head_norm(in(0), weight(op.weight), options_.config.head_dim, epsilon, count, queue);
        break;
      case OpKind::kMatmul:
        multiply(in(0), op.weight, op.bias, count, out());
        break;
      case OpKind::kSiluMul:
        gpu::silu_mul(in(0), in(1), count, out(), queue);
        break;
      case OpKind::kAdd:
        gpu::add(in(0), in(1), count, out(), queue);
        break;
      case OpKind::kAttend:
        attention_->layer(op.layer, in(0), in(1), in(2), out(), stream);
        if (watch_ && !captured) watch_(op.layer, in(0), stream);
        break;
      case OpKind::kSelect:
        gpu::gather(in(0), index_, count, out(), queue);
        break;
      case OpKind::kLogits:
        run_logits(op, tape, captured);
        break;
    }
  }
}

template <typename T>
void CudaDevice<T>::run_logits(const TapeOp& op, const Tape& tape, bool captured) {
  const gpu::Rows<T> x = rows(tape, op.in[0]);
  const gpu::Rows<T> logits{logits_->logits(), logits_->stride(), op.weight.rows};
  for (int32_t from = 0; from < selected_; from += logits_->piece()) {
    const int32_t some = std::min(logits_->piece(), selected_ - from);
    const gpu::Rows<T> part{x.data + from * x.stride, x.stride, x.columns};
    multiply(part, op.weight, {}, padded(some), logits);
    logits_->draw(from, some, stream_.get());
    if (!captured) logits_->keep_scored(from, some, stream_.get());
  }
}

template <typename T>
bool CudaDevice<T>::finished() {
  // A fault is finish's to throw. That a step still runs is no error, but would be the last one.
  if (cudaEventQuery(done_[finished_ % kDepth].get()) != cudaErrorNotReady) return true;
  cudaGetLastError();
  return false;
}

template <typename T>
void CudaDevice<T>::finish() {
  CUDA_CHECK(cudaEventSynchronize(done_[finished_ % kDepth].get()));
  finished_++;
  logits_->answer();
  attention_->answer();
}

template <typename T>
void CudaDevice<T>::inject_fault() {
  if (fault_after_ >= 0 && launched_ >= fault_after_) gpu::trap(stream_.get());
}

template class CudaDevice<__nv_bfloat16>;
template class CudaDevice<__half>;

}  // namespace spotlight
