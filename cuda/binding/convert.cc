#include "binding/convert.h"

#include <algorithm>
#include <new>

#include "attention/selectors/selector.h"
#include "error.h"
#include "kv/arenas.h"

namespace spotlight {
namespace {

const char* scaling_name(RopeScaling scaling) {
  switch (scaling) {
    case RopeScaling::kNone:
      return "none";
    case RopeScaling::kLinear:
      return "linear";
    case RopeScaling::kLlama3:
      return "llama3";
    case RopeScaling::kYarn:
      return "yarn";
  }
  return "none";
}

template <typename Array, typename T>
Array typed(Napi::Env env, const std::vector<T>& values) {
  Array array = Array::New(env, values.size());
  std::copy(values.begin(), values.end(), array.Data());
  return array;
}

Napi::Array texts(Napi::Env env, const std::vector<std::string>& values) {
  Napi::Array array = Napi::Array::New(env, values.size());
  for (size_t i = 0; i < values.size(); i++) array.Set(static_cast<uint32_t>(i), values[i]);
  return array;
}

Napi::Array integers(Napi::Env env, const std::vector<int32_t>& values) {
  Napi::Array array = Napi::Array::New(env, values.size());
  for (size_t i = 0; i < values.size(); i++) array.Set(static_cast<uint32_t>(i), values[i]);
  return array;
}

Napi::Object model_info(Napi::Env env, const WeightFile& file) {
  const ModelConfig& config = file.config();
  double parameters = 0, bytes = 0;
  for (const auto& [name, view] : file.views()) {
    parameters += static_cast<double>(view.rows) * static_cast<double>(view.cols);
    bytes += static_cast<double>(view.bytes);
  }
  Napi::Object info = Napi::Object::New(env);
  info.Set("architecture", config.architecture);
  info.Set("layers", config.layers);
  info.Set("hiddenSize", config.hidden);
  info.Set("intermediateSize", config.intermediate);
  info.Set("queryHeads", config.query_heads);
  info.Set("kvHeads", config.kv_heads);
  info.Set("headDim", config.head_dim);
  info.Set("vocabSize", config.vocab);
  info.Set("maxModelLen", config.max_model_len);
  info.Set("ropeTheta", config.rope.theta);
  info.Set("ropeScaling", scaling_name(config.rope.scaling));
  info.Set("rmsNormEps", config.rms_norm_eps);
  info.Set("tiedEmbeddings", config.tied_embeddings);
  if (config.bos_token >= 0) info.Set("bosTokenId", config.bos_token);
  info.Set("eosTokenIds", integers(env, config.eos_tokens));
  info.Set("parameters", parameters);
  info.Set("weightBytes", bytes);
  return info;
}

}  // namespace

Napi::Value to_js_error(Napi::Env env, const std::exception_ptr& error) {
  const char* code = kInternal;
  std::string message;
  try {
    std::rethrow_exception(error);
  } catch (const Error& native) {
    code = native.code();
    message = native.what();
  } catch (const std::bad_alloc&) {
    code = kOutOfMemory;
    message = "out of memory";
  } catch (const std::exception& other) {
    message = other.what();
  } catch (...) {
    message = "unknown native error";
  }
  const Napi::Error js = Napi::Error::New(env, message);
  js.Set("code", Napi::String::New(env, code));
  return js.Value();
}

Napi::Value guarded(Napi::Env env, const std::function<Napi::Value()>& body) {
  try {
    return body();
  } catch (const Napi::Error&) {
    throw;  // JS's own, on its way already
  } catch (...) {
    napi_throw(env, to_js_error(env, std::current_exception()));
    return env.Undefined();
  }
}

Napi::Object engine_info(Napi::Env env, const Engine& engine) {
  const EngineOptions& options = engine.options();
  Napi::Object info = Napi::Object::New(env);
  info.Set("model", model_info(env, engine.file()));
  info.Set("fingerprintText", fingerprint_text(engine.file().config()));
  info.Set("device", options.device);
  info.Set("deviceName", engine.device().name());
  info.Set("isa", engine.device().isa());
  info.Set("threads", options.threads);
  info.Set("blocks", options.blocks);
  info.Set("blockBytes",
           static_cast<double>(block_bytes(engine.file().config(), options.code_bits)));
  info.Set("codeBits", options.code_bits);
  info.Set("maxBatchTokens", options.max_batch_tokens);
  info.Set("maxSequences", options.max_sequences);
  info.Set("decodeSizes", integers(env, engine.device().decode_sizes()));
  info.Set("selectors", options.selectors);
  info.Set("crossover", options.attention.crossover.value_or(0));
  return info;
}

Napi::Value tokenizer_metadata(Napi::Env env, const TokenizerFields& fields) {
  if (!fields.present) return env.Undefined();
  Napi::Object result = Napi::Object::New(env);
  result.Set("model", fields.model);
  if (!fields.pre.empty()) result.Set("pre", fields.pre);
  result.Set("tokens", texts(env, fields.tokens));
  if (!fields.merges.empty()) result.Set("merges", texts(env, fields.merges));
  if (!fields.scores.empty()) result.Set("scores", typed<Napi::Float32Array>(env, fields.scores));
  if (!fields.types.empty()) result.Set("tokenTypes", typed<Napi::Int32Array>(env, fields.types));
  const auto token = [&](const char* key, int32_t id) {
    if (id >= 0) result.Set(key, id);
  };
  token("bosTokenId", fields.bos);
  token("eosTokenId", fields.eos);
  token("unknownTokenId", fields.unknown);
  token("padTokenId", fields.pad);
  const auto flag = [&](const char* key, int8_t value) {
    if (value >= 0) result.Set(key, value == 1);
  };
  flag("addBosToken", fields.add_bos);
  flag("addEosToken", fields.add_eos);
  flag("addSpacePrefix", fields.add_space_prefix);
  if (!fields.chat_template.empty()) result.Set("chatTemplate", fields.chat_template);
  return result;
}

ArtifactDescription describe(const Artifact& artifact) {
  ArtifactDescription description;
  description.encoder = artifact.encoder;
  description.bits = artifact.bits;
  description.head_dim = artifact.head_dim;
  description.query_heads = artifact.query_heads;
  description.kv_heads = artifact.kv_heads;
  description.metadata = artifact.metadata;
  for (size_t i = 0; i < artifact.layers.size(); i++) {
    const LayerCode& code = artifact.layers[i];
    if (!code.key.empty() || !code.w1.empty())
      description.layers.push_back(static_cast<int32_t>(i));
  }
  return description;
}

Napi::Object artifact_info(Napi::Env env, const ArtifactDescription& artifact) {
  Napi::Object info = Napi::Object::New(env);
  info.Set("format", 1);
  info.Set("encoder", artifact.encoder);
  info.Set("bits", artifact.bits);
  info.Set("headDim", artifact.head_dim);
  info.Set("queryHeads", artifact.query_heads);
  info.Set("kvHeads", artifact.kv_heads);
  info.Set("layers", integers(env, artifact.layers));
  Napi::Object metadata = Napi::Object::New(env);
  for (const auto& [key, value] : artifact.metadata) metadata.Set(key, value);
  const auto fingerprint = artifact.metadata.find("model_fingerprint");
  info.Set("fingerprint", fingerprint == artifact.metadata.end() ? "" : fingerprint->second);
  info.Set("metadata", metadata);
  return info;
}

Napi::Object cuda_devices_info(Napi::Env env, const CudaDevices& found) {
  Napi::Array devices = Napi::Array::New(env, found.devices.size());
  for (size_t i = 0; i < found.devices.size(); i++) {
    const CudaDeviceInfo& device = found.devices[i];
    Napi::Object info = Napi::Object::New(env);
    info.Set("index", device.index);
    info.Set("name", device.name);
    info.Set("memoryBytes", static_cast<double>(device.memory_bytes));
    if (device.free_bytes >= 0) info.Set("freeBytes", static_cast<double>(device.free_bytes));
    info.Set("computeCapability",
             std::to_string(device.major) + "." + std::to_string(device.minor));
    if (!device.driver.empty()) info.Set("driver", device.driver);
    info.Set("usable", device.problem.empty());
    if (!device.problem.empty()) info.Set("problem", device.problem);
    devices.Set(static_cast<uint32_t>(i), info);
  }
  Napi::Object result = Napi::Object::New(env);
  result.Set("devices", devices);
  result.Set("missing", texts(env, found.missing));
  return result;
}

Napi::Object engine_stats(Napi::Env env, const EngineStats& stats) {
  Napi::Object result = Napi::Object::New(env);
  result.Set("steps", static_cast<double>(stats.steps));
  result.Set("tokens", static_cast<double>(stats.tokens));
  result.Set("inFlight", stats.in_flight);
  result.Set("openSequences", stats.open_sequences);
  result.Set("busySeconds", stats.busy_seconds);
  result.Set("selectedTokens", static_cast<double>(stats.selected_tokens));
  result.Set("contextTokens", static_cast<double>(stats.context_tokens));
  result.Set("denseFallbackRows", static_cast<double>(stats.dense_fallback_rows));
  result.Set("sparseRows", static_cast<double>(stats.sparse_rows));
  return result;
}

Napi::Object trainer_info(Napi::Env env, const train::Trainer& trainer) {
  const train::Layout& layout = trainer.layout();
  Napi::Object info = Napi::Object::New(env);
  info.Set("model", model_info(env, trainer.file()));
  info.Set("fingerprintText", fingerprint_text(trainer.file().config()));
  info.Set("deviceName", trainer.device_name());
  info.Set("threads", trainer.threads());
  info.Set("layers", integers(env, layout.layers));
  info.Set("headSize", static_cast<double>(layout.head_size));
  info.Set("layerSize", static_cast<double>(layout.layer_size));
  return info;
}

Napi::Object step_report(Napi::Env env, const train::StepReport& report) {
  Napi::Object result = Napi::Object::New(env);
  result.Set("step", report.step);
  result.Set("loss", report.loss);
  result.Set("learningRate", report.learning_rate);
  result.Set("layers", typed<Napi::Float64Array>(env, report.layers));
  result.Set("captureSeconds", report.capture_seconds);
  result.Set("trainSeconds", report.train_seconds);
  return result;
}

Napi::Object quality_report(Napi::Env env, const train::QualityReport& report) {
  Napi::Object result = Napi::Object::New(env);
  result.Set("iou", report.iou);
  result.Set("mass", report.mass);
  result.Set("layerIou", typed<Napi::Float64Array>(env, report.layer_iou));
  result.Set("layerMass", typed<Napi::Float64Array>(env, report.layer_mass));
  return result;
}

Napi::Object trainer_state(Napi::Env env, const train::TrainerState& state) {
  Napi::Object result = Napi::Object::New(env);
  result.Set("step", state.step);
  result.Set("weights", typed<Napi::Float32Array>(env, state.weights));
  result.Set("first", typed<Napi::Float32Array>(env, state.first));
  result.Set("second", typed<Napi::Float32Array>(env, state.second));
  return result;
}

Napi::Object step_result(Napi::Env env, int32_t step, double seconds, const PackedResult& packed) {
  Napi::Object result = Napi::Object::New(env);
  result.Set("step", step);
  result.Set("seconds", seconds);
  result.Set("ints", typed<Napi::Int32Array>(env, packed.ints));
  result.Set("floats", typed<Napi::Float32Array>(env, packed.floats));
  return result;
}

Napi::Value selectors_info(Napi::Env env) {
  Napi::Array all = Napi::Array::New(env);
  for (const Selector* selector : all_selectors()) {
    const SelectorInfo& info = selector->info();
    Napi::Object one = Napi::Object::New(env);
    one.Set("name", info.name);
    one.Set("paper", info.paper);
    one.Set("rule", info.rule);
    one.Set("indexBits", info.index_bits);
    one.Set("indexBitsPerDim", info.index_bits_per_dim);
    one.Set("tail", info.tail);
    one.Set("perQueryHead", info.per_query_head);
    one.Set("evicts", info.in_order);
    all.Set(all.Length(), one);
  }
  return all;
}

}  // namespace spotlight
