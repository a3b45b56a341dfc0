#include "train/trainer.h"

#include <ggml.h>

#include <utility>

#include "engine/resolve.h"
#include "error.h"
#include "train/cpu_trainer.h"
#include "train/gpu/cuda_trainer.h"

namespace spotlight::train {
namespace {

constexpr int32_t kFewestTokens = 64;

Recipe checked(const Recipe& recipe, const ModelConfig& config) {
  validate(recipe, config);
  return recipe;
}

}  // namespace

Trainer::Trainer(std::unique_ptr<WeightFile> file, const Recipe& recipe)
    : file_(std::move(file)),
      recipe_(checked(recipe, file_->config())),
      layout_(recipe_, file_->config()) {}

void Trainer::check(const std::vector<int32_t>& tokens) const {
  const auto count = static_cast<int64_t>(tokens.size());
  if (count < kFewestTokens || count > recipe_.sequence)
    throw Error(kInvalidArgument, "tokens: a text of " + std::to_string(count) + ", must have " +
                                      std::to_string(kFewestTokens) + " to " +
                                      std::to_string(recipe_.sequence));
  for (size_t i = 0; i < tokens.size(); i++) {
    if (tokens[i] < 0 || tokens[i] >= file_->config().vocab)
      throw Error(kInvalidArgument,
                  "tokens[" + std::to_string(i) + "]: " + std::to_string(tokens[i]) +
                      ", the model has 0 to " + std::to_string(file_->config().vocab - 1));
  }
}

std::optional<StepReport> Trainer::step(const std::vector<int32_t>& tokens) {
  check(tokens);
  if (step_ >= recipe_.steps)
    throw Error(kInvalidArgument, "all " + std::to_string(recipe_.steps) + " steps are done");
  const auto count = static_cast<int32_t>(tokens.size());
  std::vector<int32_t> positions(static_cast<size_t>(recipe_.rows) * recipe_.updates);
  for (int32_t u = 0; u < recipe_.updates; u++)
    draw_rows({recipe_.seed, Purpose::kRows, static_cast<uint32_t>(step_ * recipe_.updates + u), 0},
              count / recipe_.first_share, count, recipe_.rows,
              positions.data() + static_cast<ptrdiff_t>(u) * recipe_.rows);
  std::optional<StepReport> report = train(tokens, positions, step_);
  if (!report.has_value()) return report;
  report->step = ++step_;
  report->learning_rate = learning_rate(recipe_, (step_ - 1) * recipe_.updates);
  for (const double loss : report->layers)
    report->loss += loss / static_cast<double>(report->layers.size());
  return report;
}

std::optional<QualityReport> Trainer::measure(const std::vector<int32_t>& tokens, int32_t rows) {
  check(tokens);
  if (rows < 1 || rows > recipe_.sequence)
    throw Error(kInvalidArgument, "rows: " + std::to_string(rows) + ", must be in [1, " +
                                      std::to_string(recipe_.sequence) + "]");
  const auto count = static_cast<int32_t>(tokens.size());
  std::vector<int32_t> positions(static_cast<size_t>(rows));
  // Evenly over the last eighth, the last token among them.
  for (int32_t i = 0; i < rows; i++)
    positions[i] = count - 1 - static_cast<int32_t>(int64_t{count / 8} * (rows - 1 - i) / rows);
  std::optional<QualityReport> report = judge(tokens, positions);
  if (!report.has_value()) return report;
  const auto layers = static_cast<double>(report->layer_iou.size());
  for (const double iou : report->layer_iou) report->iou += iou / layers;
  for (const double mass : report->layer_mass) report->mass += mass / layers;
  return report;
}

TrainerState Trainer::save() const {
  TrainerState state;
  state.step = step_;
  read(state);
  return state;
}

void Trainer::load(TrainerState state) {
  const auto size = static_cast<size_t>(layout_.size());
  if (state.weights.size() != size || state.first.size() != size || state.second.size() != size)
    throw Error(kInvalidArgument, "state: has " + std::to_string(state.weights.size()) + ", " +
                                      std::to_string(state.first.size()) + " and " +
                                      std::to_string(state.second.size()) +
                                      " values, this training has " + std::to_string(size));
  if (state.step < 0 || state.step > recipe_.steps)
    throw Error(kInvalidArgument, "state: step " + std::to_string(state.step) + " of " +
                                      std::to_string(recipe_.steps));
  write(state);
  step_ = state.step;
}

std::vector<float> as_stored(const std::vector<float>& weights) {
  std::vector<float> rounded(weights.size());
  for (size_t i = 0; i < weights.size(); i++)
    rounded[i] = ggml_bf16_to_fp32(ggml_fp32_to_bf16(weights[i]));
  return rounded;
}

#ifndef SPOTLIGHT_CUDA
std::unique_ptr<Trainer> make_cuda_trainer(std::unique_ptr<WeightFile>, const Recipe&, int32_t) {
  throw Error(kDeviceUnavailable,
              "device: this build of the native module has no CUDA; build it with SPOTLIGHT_CUDA=1 "
              "npm run build -w cuda, or take device \"cpu\"");
}
#endif

std::unique_ptr<Trainer> make_trainer(const TrainerOptions& options) {
  if (options.device != "cpu" && options.device != "cuda")
    throw Error(kInvalidArgument,
                "device: \"" + options.device + "\", must be \"cpu\" or \"cuda\"");
  std::unique_ptr<WeightFile> file = open_model(options.model);
  validate(file->config());
  EngineOptions engine;
  engine.threads = options.threads;
  const int32_t threads = resolved(engine, file->config()).threads;
  if (options.device == "cuda") return make_cuda_trainer(std::move(file), options.recipe, threads);
  return make_cpu_trainer(std::move(file), options.recipe, threads);
}

}  // namespace spotlight::train
