// A training: one text a step, the frozen model's queries and keys of it, an update of every coded
// layer. What decides the weights is the recipe, the texts in their order and this state; threads
// and interruptions do not.
#pragma once

#include <atomic>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/options.h"
#include "model/weights.h"
#include "train/layout.h"
#include "train/recipe.h"

namespace spotlight::train {

struct TrainerOptions {
  ModelSource model;
  std::string device = "cpu";
  int32_t threads = 0;  // 0: physical cores
  Recipe recipe;
};

// All that a training is between two steps: [layout.size()] each.
struct TrainerState {
  int32_t step = 0;  // how many were done
  std::vector<float> weights, first, second;
};

struct StepReport {
  int32_t step = 0;  // how many are done, this one included
  double loss = 0;   // mean of the layers'
  float learning_rate = 0;
  std::vector<double> layers;  // losses, of layout.layers
  double capture_seconds = 0, train_seconds = 0;
};

struct QualityReport {
  double iou = 0, mass = 0;  // means of the layers'
  std::vector<double> layer_iou, layer_mass;
};

// Calls come from one thread at a time, whichever; cancel from any.
class Trainer {
 public:
  Trainer(std::unique_ptr<WeightFile> file, const Recipe& recipe);
  virtual ~Trainer() = default;
  Trainer(const Trainer&) = delete;
  Trainer& operator=(const Trainer&) = delete;

  const WeightFile& file() const { return *file_; }
  const Recipe& recipe() const { return recipe_; }
  const Layout& layout() const { return layout_; }
  int32_t steps_done() const { return step_; }
  virtual const std::string& device_name() const = 0;
  virtual int32_t threads() const = 0;

  // Throws INVALID_ARGUMENT for a text shorter than 64 tokens or longer than the recipe's, for a
  // token the model lacks, and when all steps are done. Nothing: cancelled, and nothing has
  // changed.
  std::optional<StepReport> step(const std::vector<int32_t>& tokens);
  // Quality of the weights as an artifact stores them (bf16), over `rows` queries in the text's
  // last eighth. Nothing: cancelled.
  std::optional<QualityReport> measure(const std::vector<int32_t>& tokens, int32_t rows);
  // The step or measurement in hand ends soon without effect. Until resume().
  void cancel() { cancelled_.store(true); }
  void resume() { cancelled_.store(false); }

  TrainerState save() const;
  // Throws INVALID_ARGUMENT when sizes are another recipe's or model's.
  void load(TrainerState state);

 protected:
  // positions: [recipe.updates * recipe.rows], each update's ascending. step: how many are done.
  virtual std::optional<StepReport> train(const std::vector<int32_t>& tokens,
                                          const std::vector<int32_t>& positions, int32_t step) = 0;
  virtual std::optional<QualityReport> judge(const std::vector<int32_t>& tokens,
                                             const std::vector<int32_t>& positions) = 0;
  virtual void read(TrainerState& state) const = 0;
  virtual void write(const TrainerState& state) = 0;
  const std::atomic<bool>& cancelled() const { return cancelled_; }

 private:
  void check(const std::vector<int32_t>& tokens) const;

  std::unique_ptr<WeightFile> file_;
  Recipe recipe_;
  Layout layout_;
  int32_t step_ = 0;
  std::atomic<bool> cancelled_{false};
};

// Throws the loaders' errors, INVALID_ARGUMENT naming the field, OUT_OF_MEMORY, DEVICE_UNAVAILABLE.
std::unique_ptr<Trainer> make_trainer(const TrainerOptions& options);

// Rounded as an artifact stores weights.
std::vector<float> as_stored(const std::vector<float>& weights);

}  // namespace spotlight::train
