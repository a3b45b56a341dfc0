// The addon's exports: createEngine, createTrainer, inspectArtifact, devices and their classes.
// Ring 4: the only code that knows N-API.
#include "binding/addon.h"

#include "binding/convert.h"
#include "binding/engine_object.h"
#include "binding/parse.h"

namespace spotlight {
namespace {

// [async] Reads and checks an artifact file; resolves with what it says of itself.
class InspectArtifact final : public Napi::AsyncWorker {
 public:
  InspectArtifact(Napi::Env env, std::string path)
      : AsyncWorker(env), deferred_(Napi::Promise::Deferred::New(env)), path_(std::move(path)) {}
  Napi::Value promise() const { return deferred_.Promise(); }

 private:
  void Execute() override {
    try {
      artifact_ = describe(read_artifact(path_));
    } catch (...) {
      error_ = std::current_exception();
    }
  }
  void OnOK() override {
    if (error_ != nullptr) {
      deferred_.Reject(to_js_error(Env(), error_));
    } else {
      deferred_.Resolve(artifact_info(Env(), artifact_));
    }
  }

  Napi::Promise::Deferred deferred_;
  std::string path_;
  ArtifactDescription artifact_;
  std::exception_ptr error_;
};

Napi::Value inspect_artifact(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    auto* worker = new InspectArtifact(info.Env(), parse_text(info[0], "path"));
    const Napi::Value promise = worker->promise();
    worker->Queue();
    return promise;
  });
}

// [async] Looks at the GPUs and at what an engine on one needs; loading drivers takes long.
class SurveyDevices final : public Napi::AsyncWorker {
 public:
  explicit SurveyDevices(Napi::Env env)
      : AsyncWorker(env), deferred_(Napi::Promise::Deferred::New(env)) {}
  Napi::Value promise() const { return deferred_.Promise(); }

 private:
  void Execute() override { found_ = cuda_devices(); }
  void OnOK() override { deferred_.Resolve(cuda_devices_info(Env(), found_)); }
  void OnError(const Napi::Error& error) override { deferred_.Reject(error.Value()); }

  Napi::Promise::Deferred deferred_;
  CudaDevices found_;
};

Napi::Value devices(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    auto* worker = new SurveyDevices(info.Env());
    const Napi::Value promise = worker->promise();
    worker->Queue();
    return promise;
  });
}

// [sync] The evaluation methods this build has.
Napi::Value selectors(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value { return selectors_info(info.Env()); });
}

// process.exit() ends a process without tearing down its JS environment: no EngineObject is
// destroyed, while C++ destroys what is static (ggml's buffer types) under threads that run a step.
// So the steps are finished before that.
void finish_engines(const Napi::CallbackInfo& info) {
  for (const auto& each : info.Env().GetInstanceData<AddonData>()->engines) {
    if (const auto engine = each.lock()) engine->finish();
  }
  for (const auto& each : info.Env().GetInstanceData<AddonData>()->trainers) {
    if (const auto trainer = each.lock()) trainer->finish();
  }
}

Napi::Object init(Napi::Env env, Napi::Object exports) {
  auto* data = new AddonData;
  data->engine_class = Napi::Persistent(EngineObject::define(env));
  data->trainer_class = Napi::Persistent(TrainerObject::define(env));
  env.SetInstanceData(data);
  const auto process = env.Global().Get("process").As<Napi::Object>();
  process.Get("once").As<Napi::Function>().Call(
      process, {Napi::String::New(env, "exit"), Napi::Function::New<finish_engines>(env)});
  exports.Set("createEngine", Napi::Function::New<EngineObject::create>(env, "createEngine"));
  exports.Set("createTrainer", Napi::Function::New<TrainerObject::create>(env, "createTrainer"));
  exports.Set("inspectArtifact", Napi::Function::New<inspect_artifact>(env, "inspectArtifact"));
  exports.Set("selectors", Napi::Function::New<selectors>(env, "selectors"));
  exports.Set("devices", Napi::Function::New<devices>(env, "devices"));
  return exports;
}

}  // namespace
}  // namespace spotlight

static Napi::Object init_addon(Napi::Env env, Napi::Object exports) {
  return spotlight::init(env, exports);
}
NODE_API_MODULE(spotlight, init_addon)
