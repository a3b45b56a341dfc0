#include "binding/trainer_object.h"

#include <algorithm>
#include <utility>

#include "binding/addon.h"
#include "binding/convert.h"
#include "binding/errand.h"
#include "binding/parse.h"
#include "error.h"

namespace spotlight {

using train::Trainer;

Napi::Function TrainerObject::define(Napi::Env env) {
  return DefineClass(
      env, "Trainer",
      {InstanceMethod<&TrainerObject::info>("info"),
       InstanceMethod<&TrainerObject::tokenizer>("tokenizer"),
       InstanceMethod<&TrainerObject::step>("step"),
       InstanceMethod<&TrainerObject::measure>("measure"),
       InstanceMethod<&TrainerObject::save>("save"), InstanceMethod<&TrainerObject::load>("load"),
       InstanceMethod<&TrainerObject::cancel>("cancel"),
       InstanceMethod<&TrainerObject::dispose>("dispose")});
}

Napi::Value TrainerObject::create(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const auto deferred = Napi::Promise::Deferred::New(env);
  try {
    if (info.Length() < 1 || !info[0].IsObject())
      throw Error(kInvalidArgument, "options: must be an object");
    const train::TrainerOptions options = parse_trainer_options(info[0].As<Napi::Object>());
    const auto made = std::make_shared<std::shared_ptr<RunningTrainer>>();
    auto* errand = new Errand(
        env, [options, made] { *made = std::make_shared<RunningTrainer>(options); },
        [deferred, made](Napi::Env js, const std::exception_ptr& error) {
          if (error != nullptr) {
            deferred.Reject(to_js_error(js, error));
            return;
          }
          AddonData& data = *js.GetInstanceData<AddonData>();
          data.trainers.erase(std::remove_if(data.trainers.begin(), data.trainers.end(),
                                             [](const auto& each) { return each.expired(); }),
                              data.trainers.end());
          data.trainers.push_back(*made);
          const Napi::Object object = data.trainer_class.New({});
          Unwrap(object)->trainer_ = std::move(*made);
          deferred.Resolve(object);
        });
    errand->Queue();
  } catch (...) {
    deferred.Reject(to_js_error(env, std::current_exception()));
  }
  return deferred.Promise();
}

std::shared_ptr<RunningTrainer> TrainerObject::running() const {
  if (trainer_ == nullptr) throw Error(kEngineDisposed, "the trainer is disposed");
  return trainer_;
}

template <typename Made>
Napi::Value TrainerObject::later(Napi::Env env, std::function<Made(Trainer&)> work,
                                 std::function<Napi::Value(Napi::Env, const Made&)> answer) {
  const auto deferred = Napi::Promise::Deferred::New(env);
  try {
    const std::shared_ptr<RunningTrainer> trainer = running();
    if (busy_) throw Error(kInvalidArgument, "the trainer is at work: await the call before");
    const auto made = std::make_shared<Made>();
    auto* errand = new Errand(
        env, [trainer, work, made] { trainer->call([&](Trainer& own) { *made = work(own); }); },
        [this, deferred, answer, made](Napi::Env js, const std::exception_ptr& error) {
          busy_ = false;
          if (error != nullptr) {
            deferred.Reject(to_js_error(js, error));
          } else {
            deferred.Resolve(answer(js, *made));
          }
          Unref();
        });
    busy_ = true;
    trainer->trainer().resume();
    Ref();  // this object stays while the call runs
    errand->Queue();
  } catch (...) {
    deferred.Reject(to_js_error(env, std::current_exception()));
  }
  return deferred.Promise();
}

Napi::Value TrainerObject::info(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] { return trainer_info(info.Env(), running()->trainer()); });
}

Napi::Value TrainerObject::tokenizer(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    return tokenizer_metadata(info.Env(), running()->trainer().file().tokenizer());
  });
}

Napi::Value TrainerObject::step(const Napi::CallbackInfo& info) {
  using Report = std::optional<train::StepReport>;
  return guarded(info.Env(), [&]() -> Napi::Value {
    std::vector<int32_t> tokens = parse_integers(info[0], "tokens");
    return later<Report>(
        info.Env(), [tokens = std::move(tokens)](Trainer& own) { return own.step(tokens); },
        [](Napi::Env env, const Report& report) -> Napi::Value {
          return report.has_value() ? step_report(env, *report) : env.Undefined();
        });
  });
}

Napi::Value TrainerObject::measure(const Napi::CallbackInfo& info) {
  using Report = std::optional<train::QualityReport>;
  return guarded(info.Env(), [&]() -> Napi::Value {
    std::vector<int32_t> tokens = parse_integers(info[0], "tokens");
    const auto rows =
        static_cast<int32_t>(std::min<uint64_t>(parse_seed(info[1], "rows"), INT32_MAX));
    return later<Report>(
        info.Env(),
        [tokens = std::move(tokens), rows](Trainer& own) { return own.measure(tokens, rows); },
        [](Napi::Env env, const Report& report) -> Napi::Value {
          return report.has_value() ? quality_report(env, *report) : env.Undefined();
        });
  });
}

Napi::Value TrainerObject::save(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    return later<train::TrainerState>(
        info.Env(), [](Trainer& own) { return own.save(); },
        [](Napi::Env env, const train::TrainerState& state) { return trainer_state(env, state); });
  });
}

Napi::Value TrainerObject::load(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    if (!info[0].IsObject()) throw Error(kInvalidArgument, "state: must be an object");
    const auto state =
        std::make_shared<train::TrainerState>(parse_trainer_state(info[0].As<Napi::Object>()));
    return later<bool>(
        info.Env(),
        [state](Trainer& own) {
          own.load(std::move(*state));
          return true;
        },
        [](Napi::Env env, const bool&) { return env.Undefined(); });
  });
}

Napi::Value TrainerObject::cancel(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    if (trainer_ != nullptr) trainer_->trainer().cancel();
    return info.Env().Undefined();
  });
}

Napi::Value TrainerObject::dispose(const Napi::CallbackInfo& info) {
  const auto deferred = Napi::Promise::Deferred::New(info.Env());
  const auto trainer = std::make_shared<std::shared_ptr<RunningTrainer>>(std::move(trainer_));
  trainer_ = nullptr;
  auto* errand = new Errand(
      info.Env(),
      [trainer] {
        if (*trainer != nullptr) (*trainer)->finish();
        trainer->reset();
      },
      [deferred](Napi::Env env, const std::exception_ptr&) { deferred.Resolve(env.Undefined()); });
  errand->Queue();
  return deferred.Promise();
}

}  // namespace spotlight
