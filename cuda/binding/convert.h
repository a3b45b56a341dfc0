// Plain structs into JS values, and native errors into JS errors that carry their code.
#pragma once

#include <napi.h>

#include <exception>
#include <functional>

#include "artifact/artifact.h"
#include "device/cuda/probe/devices.h"
#include "engine/batch.h"
#include "engine/engine.h"
#include "train/trainer.h"

namespace spotlight {

Napi::Value to_js_error(Napi::Env env, const std::exception_ptr& error);
// Runs body; what it throws becomes a pending JS exception.
Napi::Value guarded(Napi::Env env, const std::function<Napi::Value()>& body);

Napi::Object engine_info(Napi::Env env, const Engine& engine);
Napi::Value tokenizer_metadata(Napi::Env env, const TokenizerFields& fields);
// What an artifact says of itself, without its weights.
struct ArtifactDescription {
  std::string encoder;
  int32_t bits = 0, head_dim = 0, query_heads = 0, kv_heads = 0;
  std::vector<int32_t> layers;
  std::map<std::string, std::string> metadata;
};
ArtifactDescription describe(const Artifact& artifact);
Napi::Object artifact_info(Napi::Env env, const ArtifactDescription& artifact);
Napi::Object cuda_devices_info(Napi::Env env, const CudaDevices& found);
Napi::Object engine_stats(Napi::Env env, const EngineStats& stats);
Napi::Object trainer_info(Napi::Env env, const train::Trainer& trainer);
Napi::Object step_report(Napi::Env env, const train::StepReport& report);
Napi::Object quality_report(Napi::Env env, const train::QualityReport& report);
// [sync] Copies of a training's values: three Float32Arrays.
Napi::Object trainer_state(Napi::Env env, const train::TrainerState& state);
Napi::Object step_result(Napi::Env env, int32_t step, double seconds, const PackedResult& packed);
// The methods of attention/selectors, in the order of tables.
Napi::Value selectors_info(Napi::Env env);

}  // namespace spotlight
