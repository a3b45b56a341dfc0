// The trainer as a JS object: one call at a time, each on a libuv thread; cancel() reaches the one
// that runs.
#pragma once

#include <napi.h>

#include <functional>
#include <memory>
#include <mutex>

#include "train/trainer.h"

namespace spotlight {

// A trainer and the call that runs on it. Outlives its JS object while a call runs.
class RunningTrainer {
 public:
  explicit RunningTrainer(const train::TrainerOptions& options)
      : trainer_(train::make_trainer(options)) {}
  train::Trainer& trainer() { return *trainer_; }
  // Any thread; calls wait for each other.
  void call(const std::function<void(train::Trainer&)>& body) {
    const std::lock_guard<std::mutex> lock(mutex_);
    body(*trainer_);
  }
  // Ends the call that runs without effect, and waits for it.
  void finish() {
    trainer_->cancel();
    const std::lock_guard<std::mutex> lock(mutex_);
  }

 private:
  std::unique_ptr<train::Trainer> trainer_;
  std::mutex mutex_;
};

class TrainerObject final : public Napi::ObjectWrap<TrainerObject> {
 public:
  static Napi::Function define(Napi::Env env);
  explicit TrainerObject(const Napi::CallbackInfo& info) : ObjectWrap(info) {}
  // [async] Opens the model on a worker thread; resolves with a TrainerObject.
  static Napi::Value create(const Napi::CallbackInfo& info);

 private:
  // What a call makes of the trainer off the JS thread, and of that for JS.
  template <typename Made>
  Napi::Value later(Napi::Env env, std::function<Made(train::Trainer&)> work,
                    std::function<Napi::Value(Napi::Env, const Made&)> answer);
  std::shared_ptr<RunningTrainer> running() const;

  Napi::Value info(const Napi::CallbackInfo& info);       // [sync]
  Napi::Value tokenizer(const Napi::CallbackInfo& info);  // [sync]
  Napi::Value step(const Napi::CallbackInfo& info);       // [async]
  Napi::Value measure(const Napi::CallbackInfo& info);    // [async]
  Napi::Value save(const Napi::CallbackInfo& info);       // [async]
  Napi::Value load(const Napi::CallbackInfo& info);       // [async]
  Napi::Value cancel(const Napi::CallbackInfo& info);     // [sync]
  Napi::Value dispose(const Napi::CallbackInfo& info);    // [async]

  std::shared_ptr<RunningTrainer> trainer_;
  bool busy_ = false;
};

}  // namespace spotlight
