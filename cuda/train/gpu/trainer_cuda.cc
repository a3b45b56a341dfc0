#include <cuda_bf16.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <numeric>
#include <utility>

#include "device/cuda/cuda_device.h"
#include "error.h"
#include "model/transformer.h"
#include "train/gpu/cuda_trainer.h"
#include "train/gpu/layer_cuda.h"
#include "train/layer_trainer.h"

namespace spotlight::train {
namespace {

// Tokens of a step of the prefill. A streamed model comes once a step: more, then, as many as take
// longer to work through than the weights take to come.
constexpr int32_t kChunk = 2048, kStreamedChunk = 8192;
// A model whose weights, and keys and values of a text, take more in bf16 stays on the host and is
// streamed, so that a training of any fits 16 GB.
constexpr double kMostResident = 10e9;

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// On the stream that works with it: a copy on the default stream may still be on its way when
// another stream starts.
void copy(void* to, const void* from, size_t bytes, cudaMemcpyKind kind, cudaStream_t stream) {
  CUDA_CHECK(cudaMemcpyAsync(to, from, bytes, kind, stream));
  CUDA_CHECK(cudaStreamSynchronize(stream));
}

bool streams(const WeightFile& file, int32_t tokens) {
  const ModelConfig& config = file.config();
  double values = 2.0 * config.layers * config.kv_width() * tokens;
  for (const auto& [name, view] : file.views())
    values += static_cast<double>(view.rows) * static_cast<double>(view.cols);
  return 2 * values > kMostResident;
}

int32_t chunk(const WeightFile& file, int32_t tokens) {
  return std::min(streams(file, tokens) ? kStreamedChunk : kChunk, tokens);
}

DeviceOptions device_options(const WeightFile& file, int32_t tokens) {
  DeviceOptions options;
  options.config = file.config();
  options.stream_weights = streams(file, tokens);
  options.backend = "dense";
  options.code_bits = 32;  // planes that nothing writes
  options.max_tokens = chunk(file, tokens);
  options.max_sequences = 1;
  return options;
}

class CudaTrainer final : public Trainer {
 public:
  CudaTrainer(std::unique_ptr<WeightFile> weights, const Recipe& given, int32_t threads)
      : Trainer(std::move(weights), given),
        threads_(threads),
        index_(static_cast<size_t>(file().config().layers), -1),
        device_(make_device("cuda", device_options(file(), recipe().sequence))),
        cuda_(static_cast<CudaDevice<__nv_bfloat16>&>(*device_)),
        model_(file(), *device_),
        most_(chunk(file(), recipe().sequence)),
        blocks_(static_cast<size_t>((recipe().sequence + kBlockSize - 1) / kBlockSize)),
        layer_(recipe(), file().config(), cuda_.stream()) {
    const std::vector<int32_t>& layers = layout().layers;
    for (size_t i = 0; i < layers.size(); i++)
      index_[static_cast<size_t>(layers[i])] = static_cast<int32_t>(i);
    std::iota(blocks_.begin(), blocks_.end(), 0);
    device_->open_pool(static_cast<int32_t>(blocks_.size()));
    const auto size = static_cast<size_t>(layout().size());
    weights_ = DeviceBuffer<float>(size);
    first_ = DeviceBuffer<float>(size);
    second_ = DeviceBuffer<float>(size);
    k_ = DeviceBuffer<float>(static_cast<size_t>(recipe().sequence) * file().config().kv_width());
    losses_ = DeviceBuffer<double>(2 * layers.size() * static_cast<size_t>(recipe().updates));
    TrainerState start;
    start.weights.resize(size);
    start.first.resize(size);
    start.second.resize(size);
    start_weights(layout(), recipe(), start.weights.data());
    write(start);
    cuda_.watch([this](int32_t layer, gpu::Rows<__nv_bfloat16> q, cudaStream_t stream) {
      keep(layer, q, stream);
    });
  }

  const std::string& device_name() const override { return device_->name(); }
  int32_t threads() const override { return threads_; }

 protected:
  std::optional<StepReport> train(const std::vector<int32_t>& tokens,
                                  const std::vector<int32_t>& positions, int32_t step) override {
    StepReport report;
    auto start = std::chrono::steady_clock::now();
    if (!capture(tokens, positions) || cancelled().load()) return std::nullopt;
    report.capture_seconds = seconds_since(start);
    start = std::chrono::steady_clock::now();
    const int32_t updates = recipe().updates, rows = recipe().rows;
    const size_t layers = layout().layers.size();
    const int64_t query_width = file().config().query_width();
    for (size_t i = 0; i < layers; i++) {
      gather(i, static_cast<int32_t>(tokens.size()));
      layer_.take(k_.data(), static_cast<int32_t>(tokens.size()));
      const int64_t at = static_cast<int64_t>(i) * layout().layer_size;
      for (int32_t u = 0; u < updates; u++) {
        const int32_t number = step * updates + u;
        const float* q = queries(i) + int64_t{u} * rows * query_width;
        layer_.draw({recipe().seed, Purpose::kTop, static_cast<uint32_t>(number),
                     static_cast<uint32_t>(layout().layers[i])},
                    q, positions_.data() + u * rows);
        layer_.differentiate(weights_.data() + at);
        layer_.update(adamw_step(recipe(), number), weights_.data() + at, first_.data() + at,
                      second_.data() + at);
        CUDA_CHECK(cudaMemcpyAsync(losses_.data() + 2 * (i * updates + u), layer_.loss(),
                                   2 * sizeof(double), cudaMemcpyDeviceToDevice, cuda_.stream()));
      }
    }
    std::vector<double> losses(losses_.size());
    copy(losses.data(), losses_.data(), losses_.bytes(), cudaMemcpyDeviceToHost, cuda_.stream());
    for (size_t i = 0; i < layers; i++) {
      double loss = 0;
      for (int32_t u = 0; u < updates; u++) loss += losses[2 * (i * updates + u)] / updates;
      if (!std::isfinite(loss))
        throw Error(kInternal, "the loss of layer " + std::to_string(layout().layers[i]) +
                                   " is no number at step " + std::to_string(step) +
                                   ": lower learningRate");
      report.layers.push_back(loss);
    }
    report.train_seconds = seconds_since(start);
    return report;
  }

  // On the host: it is asked for a few times a training.
  std::optional<QualityReport> judge(const std::vector<int32_t>& tokens,
                                     const std::vector<int32_t>& positions) override {
    if (!capture(tokens, positions)) return std::nullopt;
    TrainerState state;
    read(state);
    const std::vector<float> weights = as_stored(state.weights);
    const auto count = static_cast<int32_t>(tokens.size());
    std::vector<float> k(tokens.size() * static_cast<size_t>(file().config().kv_width()));
    std::vector<float> q(positions.size() * static_cast<size_t>(file().config().query_width()));
    LayerInput input;
    input.tokens = count;
    input.rows = static_cast<int32_t>(positions.size());
    input.positions = positions.data();
    input.q = q.data();
    input.k = k.data();
    Crew crew(threads_);
    LayerTrainer layer(recipe(), file().config(), crew);
    QualityReport report;
    for (size_t i = 0; i < layout().layers.size(); i++) {
      gather(i, count);
      copy(k.data(), k_.data(), k.size() * sizeof(float), cudaMemcpyDeviceToHost, cuda_.stream());
      copy(q.data(), queries(i), q.size() * sizeof(float), cudaMemcpyDeviceToHost, cuda_.stream());
      layer.take(input);
      const auto quality =
          layer.measure(weights.data() + static_cast<int64_t>(i) * layout().layer_size);
      report.layer_iou.push_back(quality.iou);
      report.layer_mass.push_back(quality.mass);
    }
    return report;
  }

  void read(TrainerState& state) const override {
    const auto take = [this](const DeviceBuffer<float>& from, std::vector<float>& to) {
      to.resize(from.size());
      copy(to.data(), from.data(), from.bytes(), cudaMemcpyDeviceToHost, cuda_.stream());
    };
    take(weights_, state.weights);
    take(first_, state.first);
    take(second_, state.second);
  }
  void write(const TrainerState& state) override {
    copy(weights_.data(), state.weights.data(), weights_.bytes(), cudaMemcpyHostToDevice,
         cuda_.stream());
    copy(first_.data(), state.first.data(), first_.bytes(), cudaMemcpyHostToDevice, cuda_.stream());
    copy(second_.data(), state.second.data(), second_.bytes(), cudaMemcpyHostToDevice,
         cuda_.stream());
  }

 private:
  // Runs the text through the model; its keys then lie in the cache, its queries in q_.
  bool capture(const std::vector<int32_t>& tokens, const std::vector<int32_t>& positions) {
    const int64_t width = file().config().query_width();
    rows_ = static_cast<int32_t>(positions.size());
    const size_t wanted = layout().layers.size() * positions.size() * static_cast<size_t>(width);
    if (q_.size() < wanted) q_ = DeviceBuffer<float>(wanted);
    if (positions_.size() < positions.size()) positions_ = DeviceBuffer<int32_t>(positions.size());
    copy(positions_.data(), positions.data(), positions.size() * sizeof(int32_t),
         cudaMemcpyHostToDevice, cuda_.stream());
    const auto count = static_cast<int32_t>(tokens.size());
    std::vector<int32_t> at(tokens.size());
    std::iota(at.begin(), at.end(), 0);
    const std::vector<LayerPolicy> policies(static_cast<size_t>(file().config().layers));
    for (from_ = 0; from_ < count; from_ += chunk_) {
      if (cancelled().load(std::memory_order_relaxed)) return false;
      RowView row;
      row.block_table = blocks_.data();
      row.seated = from_ > 0;
      // Never one token alone: that is a step of decode, which is captured and not watched.
      chunk_ = std::min(most_, count - from_);
      if (count - from_ - chunk_ == 1) chunk_--;
      row.tokens = chunk_;
      row.position = from_;
      row.blocks = (from_ + row.tokens + kBlockSize - 1) / kBlockSize;
      row.policies = policies.data();
      StepInput step;
      step.tokens = tokens.data() + from_;
      step.positions = at.data() + from_;
      step.count = row.tokens;
      step.rows = &row;
      step.row_count = 1;
      device_->run(model_, step);
    }
    return true;
  }

  // Of the step in hand, launched behind the layer's attention.
  void keep(int32_t layer, gpu::Rows<__nv_bfloat16> q, cudaStream_t stream) {
    const int32_t kept = index_[static_cast<size_t>(layer)];
    if (kept < 0) return;
    kernels::gather_queries(q.data, q.stride, file().config().query_width(), from_, chunk_,
                            positions_.data(), rows_, queries(static_cast<size_t>(kept)), stream);
  }

  // Keys of the i-th coded layer into k_.
  void gather(size_t i, int32_t tokens) {
    const ModelConfig& config = file().config();
    const auto cache = cuda_.pool().template layer<__nv_bfloat16>(layout().layers[i]);
    kernels::gather_keys(cache.k, tokens, config.kv_heads, config.head_dim, k_.data(),
                         cuda_.stream());
  }

  float* queries(size_t i) const {
    return q_.data() + i * static_cast<size_t>(rows_) * file().config().query_width();
  }

  int32_t threads_;
  std::vector<int32_t> index_;
  std::unique_ptr<Device> device_;
  CudaDevice<__nv_bfloat16>& cuda_;
  Transformer model_;
  int32_t most_;  // tokens of a step
  std::vector<int32_t> blocks_;
  CudaLayerTrainer layer_;
  DeviceBuffer<float> weights_, first_, second_, k_, q_;
  DeviceBuffer<int32_t> positions_;
  DeviceBuffer<double> losses_;
  int32_t rows_ = 0, from_ = 0, chunk_ = 0;
};

}  // namespace

std::unique_ptr<Trainer> make_cuda_trainer(std::unique_ptr<WeightFile> file, const Recipe& recipe,
                                           int32_t threads) {
  return std::make_unique<CudaTrainer>(std::move(file), recipe, threads);
}

}  // namespace spotlight::train
