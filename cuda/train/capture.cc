#include "train/capture.h"

#include <algorithm>
#include <cstring>
#include <numeric>

namespace spotlight::train {
namespace {

constexpr int32_t kChunk = 512;  // tokens of a step

}  // namespace

Capture::Capture(const WeightFile& file, const std::vector<int32_t>& layers, int32_t threads,
                 int32_t most_tokens)
    : config_(file.config()),
      index_(static_cast<size_t>(config_.layers), -1),
      q_(layers.size()),
      k_(layers.size()) {
  for (size_t i = 0; i < layers.size(); i++)
    index_[static_cast<size_t>(layers[i])] = static_cast<int32_t>(i);
  DeviceOptions options;
  options.config = config_;
  options.backend = "dense";
  options.threads = threads;
  options.max_tokens = std::min(kChunk, most_tokens);
  options.max_sequences = 1;
  options.tap = this;
  device_ = make_cpu_device(options);
  model_ = std::make_unique<Transformer>(file, *device_);
  blocks_.resize(static_cast<size_t>((most_tokens + kBlockSize - 1) / kBlockSize));
  std::iota(blocks_.begin(), blocks_.end(), 0);
  device_->open_pool(static_cast<int32_t>(blocks_.size()));
}

bool Capture::run(const std::vector<int32_t>& tokens, const std::vector<int32_t>& positions,
                  const std::atomic<bool>& cancelled) {
  positions_ = positions;
  count_ = static_cast<int32_t>(tokens.size());
  for (size_t i = 0; i < k_.size(); i++) {
    q_[i].resize(positions.size() * static_cast<size_t>(config_.query_width()));
    k_[i].resize(tokens.size() * static_cast<size_t>(config_.kv_width()));
  }
  std::vector<int32_t> at(tokens.size());
  std::iota(at.begin(), at.end(), 0);
  const std::vector<LayerPolicy> policies(static_cast<size_t>(config_.layers));
  for (from_ = 0; from_ < count_; from_ += kChunk) {
    if (cancelled.load(std::memory_order_relaxed)) return false;
    RowView row;
    row.block_table = blocks_.data();
    row.seated = from_ > 0;
    row.tokens = std::min(kChunk, count_ - from_);
    row.position = from_;
    row.blocks = (from_ + row.tokens + kBlockSize - 1) / kBlockSize;
    row.policies = policies.data();
    StepInput step;
    step.tokens = tokens.data() + from_;
    step.positions = at.data() + from_;
    step.count = row.tokens;
    step.rows = &row;
    step.row_count = 1;
    device_->run(*model_, step);
  }
  device_->idle();
  return true;
}

void Capture::attending(const LayerIo& io, int32_t tokens, int32_t ith, int32_t nth) {
  const int32_t kept = index_[static_cast<size_t>(io.layer)];
  if (kept < 0) return;
  const auto q_width = static_cast<size_t>(config_.query_width());
  const auto k_width = static_cast<size_t>(config_.kv_width());
  float* k = k_[static_cast<size_t>(kept)].data();
  float* q = q_[static_cast<size_t>(kept)].data();
  for (int32_t t = ith; t < tokens; t += nth)
    std::memcpy(k + static_cast<size_t>(from_ + t) * k_width, io.k + t * io.k_stride,
                k_width * sizeof(float));
  for (size_t i = 0; i < positions_.size(); i++) {
    const int32_t t = positions_[i] - from_;
    if (t < 0 || t >= tokens || t % nth != ith) continue;
    std::memcpy(q + i * q_width, io.q + t * io.q_stride, q_width * sizeof(float));
  }
}

LayerInput Capture::input(size_t index) const {
  LayerInput input;
  input.tokens = count_;
  input.rows = static_cast<int32_t>(positions_.size());
  input.positions = positions_.data();
  input.q = q_[index].data();
  input.k = k_[index].data();
  return input;
}

}  // namespace spotlight::train
