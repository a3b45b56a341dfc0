#include "binding/parse.h"

#include <cmath>
#include <limits>

#include "error.h"

namespace spotlight {
namespace {

[[noreturn]] void refuse(const std::string& field, const char* what) {
  throw Error(kInvalidArgument, field + ": must be " + what);
}

// A field of an object, by its full name in messages. Absent and undefined are one thing.
class Field {
 public:
  Field(const Napi::Object& object, const char* key, const std::string& prefix = "")
      : value_(object.Get(key)), name_(prefix + key) {}
  bool given() const { return !value_.IsUndefined(); }
  const std::string& name() const { return name_; }
  const Napi::Value& value() const { return value_; }

  double number() const {
    if (!value_.IsNumber()) refuse(name_, "a number");
    const double number = value_.As<Napi::Number>().DoubleValue();
    if (!std::isfinite(number)) refuse(name_, "finite");
    return number;
  }
  int64_t integer() const {
    const double number = this->number();
    if (number != std::floor(number) || std::fabs(number) > 9007199254740991.0)
      refuse(name_, "an integer");
    return static_cast<int64_t>(number);
  }
  int32_t int32() const {
    const int64_t integer = this->integer();
    if (integer < std::numeric_limits<int32_t>::min() ||
        integer > std::numeric_limits<int32_t>::max())
      refuse(name_, "a 32-bit integer");
    return static_cast<int32_t>(integer);
  }
  uint64_t uint64() const {
    if (value_.IsBigInt()) {
      bool lossless = false;
      const uint64_t result = value_.As<Napi::BigInt>().Uint64Value(&lossless);
      if (!lossless) refuse(name_, "an unsigned 64-bit integer");
      return result;
    }
    const int64_t result = integer();
    if (result < 0) refuse(name_, "an unsigned 64-bit integer");
    return static_cast<uint64_t>(result);
  }
  std::string text() const { return parse_text(value_, name_); }
  Napi::Object object() const {
    if (!value_.IsObject()) refuse(name_, "an object");
    return value_.As<Napi::Object>();
  }
  std::vector<int32_t> integers() const { return parse_integers(value_, name_); }

 private:
  Napi::Value value_;
  std::string name_;
};

bool parse_tail(const Field& field) {
  const std::string tail = field.text();
  if (tail == "block-mean") return true;
  if (tail == "none") return false;
  refuse(field.name(), "\"block-mean\" or \"none\"");
}

LayerMode parse_mode(const Field& field) {
  const std::string mode = field.text();
  if (mode == "dense") return LayerMode::kDense;
  if (mode == "sparse") return LayerMode::kSparse;
  if (mode == "sparse-tail") return LayerMode::kSparseTail;
  refuse(field.name(), "\"dense\", \"sparse\" or \"sparse-tail\"");
}

// The field is given.
std::map<int32_t, LayerSettings> parse_layers(const Field& layers) {
  std::map<int32_t, LayerSettings> settings;
  const Napi::Object map = layers.object();
  const Napi::Array keys = map.GetPropertyNames();
  for (uint32_t i = 0; i < keys.Length(); i++) {
    const std::string key = keys.Get(i).ToString();
    const std::string name = layers.name() + "[" + key + "].";
    if (key.empty() || key.find_first_not_of("0123456789") != std::string::npos || key.size() > 6)
      refuse(name, "keyed by layer index");
    const Field entry(map, key.c_str(), layers.name() + ".");
    LayerSettings own;
    own.mode = parse_mode(Field(entry.object(), "mode", name));
    const Field fraction(entry.object(), "fraction", name);
    if (fraction.given()) own.fraction = static_cast<float>(fraction.number());
    settings[std::stoi(key)] = own;
  }
  return settings;
}

AttentionOverride parse_override(const Napi::Object& object) {
  const std::string prefix = "attention.";
  AttentionOverride request;
  const auto count = [&](const char* key, std::optional<int32_t>& target) {
    if (const Field field(object, key, prefix); field.given()) target = field.int32();
  };
  if (const Field backend(object, "backend", prefix); backend.given())
    request.backend = backend.text();
  if (const Field fraction(object, "fraction", prefix); fraction.given())
    request.fraction = static_cast<float>(fraction.number());
  count("minTokens", request.min_tokens);
  count("sink", request.sink);
  count("recent", request.recent);
  count("tailFrom", request.tail_from);
  count("crossover", request.crossover);
  if (const Field tail(object, "tail", prefix); tail.given()) request.tail = parse_tail(tail);
  if (const Field layers(object, "layers", prefix); layers.given())
    request.layers = parse_layers(layers);
  return request;
}

ModelSource parse_model(const Napi::Object& object) {
  const std::string prefix = "model.";
  ModelSource source;
  source.kind = Field(object, "kind", prefix).text();
  source.path = Field(object, source.kind == "dummy" ? "shape" : "path", prefix).text();
  if (const Field seed(object, "seed", prefix); seed.given()) source.seed = seed.uint64();
  if (const Field layers(object, "layers", prefix); layers.given()) source.layers = layers.int32();
  if (const Field length(object, "maxModelLen", prefix); length.given())
    source.max_model_len = length.int32();
  return source;
}

SamplingParams parse_sampling(const Napi::Object& object) {
  const std::string prefix = "sampling.";
  const auto number = [&](const char* key) {
    return static_cast<float>(Field(object, key, prefix).number());
  };
  SamplingParams params;
  params.seed = Field(object, "seed", prefix).uint64();
  const Field choice(object, "choice", prefix);
  if (choice.integer() < 0 || choice.integer() > std::numeric_limits<uint32_t>::max())
    refuse(choice.name(), "an unsigned 32-bit integer");
  params.choice = static_cast<uint32_t>(choice.integer());
  params.temperature = number("temperature");
  params.top_k = Field(object, "topK", prefix).int32();
  params.top_p = number("topP");
  params.min_p = number("minP");
  params.presence_penalty = number("presencePenalty");
  params.frequency_penalty = number("frequencyPenalty");
  params.repetition_penalty = number("repetitionPenalty");
  // A map crosses as two arrays (pack.ts): a Map has no napi face.
  if (const Field tokens(object, "biasTokens", prefix); tokens.given()) {
    const std::vector<int32_t> ids = tokens.integers();
    const Field values(object, "biasValues", prefix);
    if (!values.value().IsTypedArray() ||
        values.value().As<Napi::TypedArray>().TypedArrayType() != napi_float32_array)
      refuse("sampling.logitBias", "a map of token ids to numbers");
    const auto biases = values.value().As<Napi::Float32Array>();
    if (biases.ElementLength() != ids.size())
      refuse("sampling.logitBias", "a map of token ids to numbers");
    for (size_t i = 0; i < ids.size(); i++) params.logit_bias.emplace_back(ids[i], biases[i]);
  }
  if (const Field banned(object, "banned", prefix); banned.given())
    params.banned = banned.integers();
  if (const Field until(object, "bannedUntil", prefix); until.given())
    params.banned_until = until.integer();
  if (const Field logprobs(object, "logprobs", prefix); logprobs.given()) {
    params.logprobs = logprobs.int32();
    if (params.logprobs < 0) refuse(logprobs.name(), "at least 0");
  }
  return params;
}

}  // namespace

AttentionSettings parse_attention(const Napi::Object& object) {
  const std::string prefix = "attention.";
  AttentionSettings settings;
  settings.backend = Field(object, "backend", prefix).text();
  settings.fraction = static_cast<float>(Field(object, "fraction", prefix).number());
  settings.min_tokens = Field(object, "minTokens", prefix).int32();
  settings.sink = Field(object, "sink", prefix).int32();
  settings.recent = Field(object, "recent", prefix).int32();
  settings.tail = parse_tail(Field(object, "tail", prefix));
  settings.tail_from = Field(object, "tailFrom", prefix).int32();
  if (const Field crossover(object, "crossover", prefix); crossover.given())
    settings.crossover = crossover.int32();
  if (const Field layers(object, "layers", prefix); layers.given())
    settings.layers = parse_layers(layers);
  return settings;
}

std::string parse_text(const Napi::Value& value, const std::string& field) {
  if (!value.IsString()) refuse(field, "a string");
  return value.As<Napi::String>().Utf8Value();
}

std::vector<int32_t> parse_integers(const Napi::Value& value, const std::string& field) {
  if (value.IsTypedArray() && value.As<Napi::TypedArray>().TypedArrayType() == napi_int32_array) {
    const auto array = value.As<Napi::Int32Array>();
    return {array.Data(), array.Data() + array.ElementLength()};
  }
  if (!value.IsArray()) refuse(field, "an array of integers");
  const auto array = value.As<Napi::Array>();
  std::vector<int32_t> result;
  result.reserve(array.Length());
  for (uint32_t i = 0; i < array.Length(); i++) {
    const Napi::Value entry = array.Get(i);
    const double number = entry.IsNumber() ? entry.As<Napi::Number>().DoubleValue() : NAN;
    if (!(number >= std::numeric_limits<int32_t>::min() &&
          number <= std::numeric_limits<int32_t>::max()) ||
        number != std::floor(number)) {
      refuse(field + "[" + std::to_string(i) + "]", "a 32-bit integer");
    }
    result.push_back(static_cast<int32_t>(number));
  }
  return result;
}

int32_t parse_slot(const Napi::Value& value) {
  if (!value.IsNumber()) refuse("slot", "0 or 1");
  const double slot = value.As<Napi::Number>().DoubleValue();
  if (slot != 0 && slot != 1) refuse("slot", "0 or 1");
  return static_cast<int32_t>(slot);
}

uint64_t parse_seed(const Napi::Value& value, const std::string& field) {
  constexpr double kMost = 9007199254740991;
  const double seed = value.IsNumber() ? value.As<Napi::Number>().DoubleValue() : -1;
  if (!(seed >= 0 && seed <= kMost) || seed != std::floor(seed))
    refuse(field, "a whole number from 0 to 2^53 - 1");
  return static_cast<uint64_t>(seed);
}

EngineOptions parse_engine_options(const Napi::Object& object) {
  EngineOptions options;
  options.model = parse_model(Field(object, "model").object());
  options.attention = parse_attention(Field(object, "attention").object());
  if (const Field device(object, "device"); device.given()) options.device = device.text();
  if (const Field isa(object, "isa"); isa.given()) options.isa = isa.text();
  if (const Field dtype(object, "dtype"); dtype.given()) options.dtype = dtype.text();
  const auto optional = [&](const char* key, int32_t& target) {
    const Field field(object, key);
    if (!field.given()) return;
    target = field.int32();
    if (target < 1) refuse(key, "at least 1");
  };
  optional("threads", options.threads);
  optional("blocks", options.blocks);
  optional("maxBatchTokens", options.max_batch_tokens);
  optional("maxSequences", options.max_sequences);
  optional("codeBits", options.code_bits);
  if (const Field selectors(object, "selectors"); selectors.given()) {
    if (!selectors.value().IsBoolean()) refuse("selectors", "true or false");
    options.selectors = selectors.value().As<Napi::Boolean>();
  }
  if (const Field bytes(object, "kvBytes"); bytes.given()) options.kv_bytes = bytes.integer();
  return options;
}

train::TrainerOptions parse_trainer_options(const Napi::Object& object) {
  train::TrainerOptions options;
  options.model = parse_model(Field(object, "model").object());
  if (const Field device(object, "device"); device.given()) options.device = device.text();
  if (const Field threads(object, "threads"); threads.given()) {
    options.threads = threads.int32();
    if (options.threads < 1) refuse("threads", "at least 1");
  }
  const Napi::Object given = Field(object, "recipe").object();
  const std::string prefix = "recipe.";
  train::Recipe& recipe = options.recipe;
  const Field encoder(given, "encoder", prefix);
  const std::string kind = encoder.text();
  if (kind != "linear-asym" && kind != "mlp") refuse(encoder.name(), "\"linear-asym\" or \"mlp\"");
  recipe.encoder = kind == "mlp" ? train::CodeKind::kMlp : train::CodeKind::kLinearAsym;
  const auto whole = [&](const char* key) { return Field(given, key, prefix).int32(); };
  const auto number = [&](const char* key) {
    return static_cast<float>(Field(given, key, prefix).number());
  };
  const auto whether = [&](const char* key) -> bool {
    const Field field(given, key, prefix);
    if (!field.value().IsBoolean()) refuse(field.name(), "true or false");
    return field.value().As<Napi::Boolean>();
  };
  recipe.bits = whole("bits");
  recipe.hidden = whole("hidden");
  recipe.steps = whole("steps");
  recipe.updates = whole("updates");
  recipe.sequence = whole("sequence");
  recipe.seed = Field(given, "seed", prefix).uint64();
  recipe.budget = number("budget");
  recipe.rows = whole("rows");
  recipe.first_share = whole("firstShare");
  recipe.top = whole("top");
  recipe.other = whole("other");
  recipe.border = number("border");
  recipe.sign_keys = whether("signKeys");
  recipe.key_gamma = number("keyGamma");
  recipe.query_gamma = number("queryGamma");
  recipe.sharpness = number("sharpness");
  recipe.mass_weights = whether("massWeights");
  recipe.learning_rate = number("learningRate");
  recipe.beta1 = number("beta1");
  recipe.beta2 = number("beta2");
  recipe.epsilon = number("epsilon");
  recipe.weight_decay = number("weightDecay");
  recipe.warmup = number("warmup");
  recipe.dense_layers = Field(given, "denseLayers", prefix).integers();
  return options;
}

train::TrainerState parse_trainer_state(const Napi::Object& object) {
  const auto values = [&](const char* key) -> std::vector<float> {
    const Field field(object, key, "state.");
    if (!field.value().IsTypedArray() ||
        field.value().As<Napi::TypedArray>().TypedArrayType() != napi_float32_array)
      refuse(field.name(), "a Float32Array");
    const auto array = field.value().As<Napi::Float32Array>();
    return {array.Data(), array.Data() + array.ElementLength()};
  };
  train::TrainerState state;
  state.step = Field(object, "step", "state.").int32();
  state.weights = values("weights");
  state.first = values("first");
  state.second = values("second");
  return state;
}

SequenceOptions parse_sequence_options(const Napi::Object& object) {
  SequenceOptions options;
  options.sampling = parse_sampling(Field(object, "sampling").object());
  options.slot = parse_slot(object.Get("slot"));
  if (const Field attention(object, "attention"); attention.given())
    options.attention = parse_override(attention.object());
  if (const Field prompt(object, "promptTokens"); prompt.given())
    options.prompt_tokens = prompt.integers();
  if (const Field generated(object, "generatedTokens"); generated.given())
    options.generated_tokens = generated.integers();
  if (const Field blocks(object, "blocks"); blocks.given()) options.blocks = blocks.integers();
  return options;
}

}  // namespace spotlight
