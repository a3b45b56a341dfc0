#include "train/cpu_trainer.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <utility>

#include "error.h"
#include "train/adamw.h"
#include "train/capture.h"
#include "train/layer_trainer.h"

namespace spotlight::train {
namespace {

constexpr int64_t kUpdated = 1 << 16;  // parameters of a piece of an update

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

class CpuTrainer final : public Trainer {
 public:
  CpuTrainer(std::unique_ptr<WeightFile> model, const Recipe& recipe, int32_t threads)
      : Trainer(std::move(model), recipe),
        crew_(threads),
        layer_(this->recipe(), file().config(), crew_),
        capture_(file(), layout().layers, threads, recipe.sequence),
        gradient_(static_cast<size_t>(layout().layer_size)) {
    state_.weights.resize(static_cast<size_t>(layout().size()));
    state_.first.resize(state_.weights.size());
    state_.second.resize(state_.weights.size());
    start_weights(layout(), this->recipe(), state_.weights.data());
  }

  const std::string& device_name() const override { return capture_.device_name(); }
  int32_t threads() const override { return crew_.threads(); }

 protected:
  std::optional<StepReport> train(const std::vector<int32_t>& tokens,
                                  const std::vector<int32_t>& positions, int32_t step) override {
    StepReport report;
    auto start = std::chrono::steady_clock::now();
    if (!capture_.run(tokens, positions, cancelled())) return std::nullopt;
    report.capture_seconds = seconds_since(start);
    if (cancelled().load()) return std::nullopt;
    start = std::chrono::steady_clock::now();
    for (size_t i = 0; i < layout().layers.size(); i++) {
      layer_.take(capture_.input(i));
      double loss = 0;
      for (int32_t u = 0; u < recipe().updates; u++) {
        layer_.choose(u * recipe().rows, recipe().rows);
        loss += update(i, step * recipe().updates + u) / recipe().updates;
      }
      report.layers.push_back(loss);
    }
    report.train_seconds = seconds_since(start);
    return report;
  }

  std::optional<QualityReport> judge(const std::vector<int32_t>& tokens,
                                     const std::vector<int32_t>& positions) override {
    if (!capture_.run(tokens, positions, cancelled())) return std::nullopt;
    QualityReport report;
    const std::vector<float> weights = as_stored(state_.weights);
    for (size_t i = 0; i < layout().layers.size(); i++) {
      layer_.take(capture_.input(i));
      const auto quality =
          layer_.measure(weights.data() + static_cast<int64_t>(i) * layout().layer_size);
      report.layer_iou.push_back(quality.iou);
      report.layer_mass.push_back(quality.mass);
    }
    return report;
  }

  void read(TrainerState& state) const override {
    state.weights = state_.weights;
    state.first = state_.first;
    state.second = state_.second;
  }
  void write(const TrainerState& state) override { state_ = state; }

 private:
  // One update of the i-th coded layer; returns the loss before it.
  double update(size_t i, int32_t number) {
    const auto layer = static_cast<uint32_t>(layout().layers[i]);
    const int64_t size = layout().layer_size, at = static_cast<int64_t>(i) * size;
    layer_.draw({recipe().seed, Purpose::kTop, static_cast<uint32_t>(number), layer});
    const double loss = layer_.loss(state_.weights.data() + at, gradient_.data());
    if (!std::isfinite(loss))
      throw Error(kInternal, "the loss of layer " + std::to_string(layer) +
                                 " is no number at update " + std::to_string(number) +
                                 ": lower learningRate");
    const AdamWStep rates = adamw_step(recipe(), number);
    crew_.run(static_cast<int32_t>((size + kUpdated - 1) / kUpdated), [&](int32_t task, int32_t) {
      const int64_t from = task * kUpdated, count = std::min(kUpdated, size - from);
      adamw(rates, gradient_.data() + from, count, state_.weights.data() + at + from,
            state_.first.data() + at + from, state_.second.data() + at + from);
    });
    return loss;
  }

  Crew crew_;
  LayerTrainer layer_;
  Capture capture_;
  TrainerState state_;
  std::vector<float> gradient_;
};

}  // namespace

std::unique_ptr<Trainer> make_cpu_trainer(std::unique_ptr<WeightFile> file, const Recipe& recipe,
                                          int32_t threads) {
  return std::make_unique<CpuTrainer>(std::move(file), recipe, threads);
}

}  // namespace spotlight::train
