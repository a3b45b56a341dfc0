#include "binding/engine_object.h"

#include <algorithm>
#include <utility>

#include "binding/addon.h"
#include "binding/convert.h"
#include "binding/errand.h"
#include "binding/parse.h"
#include "error.h"

namespace spotlight {

// --- Mailbox
// --------------------------------------------------------------------------------------------------------

std::shared_ptr<Mailbox> Mailbox::make(Napi::Env env) {
  auto mailbox = std::make_shared<Mailbox>();
  mailbox->function_ =
      Napi::ThreadSafeFunction::New(env, Napi::Function(), "spotlight", 0, 1, [mailbox](Napi::Env) {
        const std::lock_guard<std::mutex> lock(mailbox->mutex_);
        mailbox->closed_ = true;
      });
  mailbox->function_.Unref(env);
  return mailbox;
}

void Mailbox::post(std::function<void(Napi::Env)> closure) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (closed_) return;
  auto* data = new std::function<void(Napi::Env)>(std::move(closure));
  const napi_status status = function_.NonBlockingCall(
      data, [](Napi::Env env, Napi::Function, std::function<void(Napi::Env)>* call) {
        const std::unique_ptr<std::function<void(Napi::Env)>> owned(call);
        const Napi::HandleScope scope(env);
        (*owned)(env);
      });
  if (status != napi_ok) delete data;
}

void Mailbox::expect(Napi::Env env) {
  if (awaited_++ == 0 && !closed_) function_.Ref(env);
}

void Mailbox::arrived(Napi::Env env) {
  if (--awaited_ == 0 && !closed_) function_.Unref(env);
}

void Mailbox::close() {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (!std::exchange(closed_, true)) function_.Release();
}

// --- Life
// -----------------------------------------------------------------------------------------------------------

namespace {

using SharedDeferred = std::shared_ptr<Napi::Promise::Deferred>;

Napi::Value rejected(Napi::Env env, const SharedDeferred& deferred,
                     const std::exception_ptr& error) {
  deferred->Reject(to_js_error(env, error));
  return deferred->Promise();
}

}  // namespace

Napi::Function EngineObject::define(Napi::Env env) {
  return DefineClass(
      env, "Engine",
      {InstanceMethod<&EngineObject::info>("info"),
       InstanceMethod<&EngineObject::tokenizer>("tokenizer"),
       InstanceMethod<&EngineObject::set_attention>("setAttention"),
       InstanceMethod<&EngineObject::open_sequence>("openSequence"),
       InstanceMethod<&EngineObject::submit>("submit"),
       InstanceMethod<&EngineObject::collect>("collect"),
       InstanceMethod<&EngineObject::load_artifact>("loadArtifact"),
       InstanceMethod<&EngineObject::unload_artifact>("unloadArtifact"),
       InstanceMethod<&EngineObject::rehash>("rehash"), InstanceMethod<&EngineObject::fill>("fill"),
       InstanceMethod<&EngineObject::stats>("stats"),
       InstanceMethod<&EngineObject::dispose>("dispose")});
}

EngineObject::EngineObject(const Napi::CallbackInfo& info)
    : ObjectWrap(info), mailbox_(Mailbox::make(info.Env())) {}

// Without dispose() this waits for the step in flight: only a program that lost its engine comes
// here so.
EngineObject::~EngineObject() {
  mailbox_->close();
  engine_.reset();
}

Napi::Value EngineObject::create(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const auto deferred = std::make_shared<Napi::Promise::Deferred>(env);
  try {
    if (info.Length() < 1 || !info[0].IsObject())
      throw Error(kInvalidArgument, "options: must be an object");
    const EngineOptions options = parse_engine_options(info[0].As<Napi::Object>());
    const auto made = std::make_shared<std::shared_ptr<Engine>>();
    auto* errand = new Errand(
        env, [options, made] { *made = std::make_shared<Engine>(options); },
        [deferred, made](Napi::Env js, const std::exception_ptr& error) {
          if (error != nullptr) {
            deferred->Reject(to_js_error(js, error));
            return;
          }
          const Napi::Object object = js.GetInstanceData<AddonData>()->engine_class.New({});
          Unwrap(object)->adopt(std::move(*made));
          deferred->Resolve(object);
        });
    errand->Queue();
  } catch (...) {
    return rejected(env, deferred, std::current_exception());
  }
  return deferred->Promise();
}

void EngineObject::adopt(std::shared_ptr<Engine> engine) {
  engine_ = std::move(engine);
  auto& engines = Env().GetInstanceData<AddonData>()->engines;
  engines.erase(std::remove_if(engines.begin(), engines.end(),
                               [](const auto& each) { return each.expired(); }),
                engines.end());
  engines.push_back(engine_);
}

Engine& EngineObject::engine() {
  if (engine_ == nullptr) throw Error(kEngineDisposed, "the engine is disposed");
  return *engine_;
}

void EngineObject::expect() {
  Ref();
  mailbox_->expect(Env());
}

void EngineObject::arrived() {
  mailbox_->arrived(Env());
  Unref();
}

Napi::Value EngineObject::dispose(const Napi::CallbackInfo& info) {
  const auto deferred = std::make_shared<Napi::Promise::Deferred>(info.Env());
  const auto engine = std::make_shared<std::shared_ptr<Engine>>(std::move(engine_));
  engine_ = nullptr;
  answers_.clear();
  expect();
  // By the mailbox, behind the answers of the steps that finish first.
  auto* errand = new Errand(
      info.Env(),
      [this, deferred, engine] {
        engine->reset();
        mailbox_->post([this, deferred](Napi::Env env) {
          while (!collects_.empty()) hand_out();
          deferred->Resolve(env.Undefined());
          arrived();
        });
      },
      [](Napi::Env, const std::exception_ptr&) {});
  errand->Queue();
  return deferred->Promise();
}

// --- Sequences and steps
// --------------------------------------------------------------------------------------------

Napi::Value EngineObject::info(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] { return engine_info(info.Env(), engine()); });
}

Napi::Value EngineObject::tokenizer(const Napi::CallbackInfo& info) {
  return guarded(info.Env(),
                 [&] { return tokenizer_metadata(info.Env(), engine().file().tokenizer()); });
}

Napi::Value EngineObject::set_attention(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    if (info.Length() < 1 || !info[0].IsObject())
      throw Error(kInvalidArgument, "attention: must be an object");
    engine().set_attention(parse_attention(info[0].As<Napi::Object>()));
    return info.Env().Undefined();
  });
}

Napi::Value EngineObject::open_sequence(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    if (info.Length() < 1 || !info[0].IsObject())
      throw Error(kInvalidArgument, "options: must be an object");
    return Napi::Number::New(info.Env(),
                             engine().open(parse_sequence_options(info[0].As<Napi::Object>())));
  });
}

Napi::Value EngineObject::submit(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    Engine& target = engine();
    if (info.Length() < 1 || !info[0].IsTypedArray() ||
        info[0].As<Napi::TypedArray>().TypedArrayType() != napi_int32_array) {
      throw Error(kInvalidArgument, "batch: must be a packed Int32Array");
    }
    const auto packed = info[0].As<Napi::Int32Array>();
    const auto mailbox = mailbox_;
    const int32_t step =
        target.submit(unpack_batch(packed.Data(), packed.ElementLength()),
                      [this, mailbox](StepResult result, const std::exception_ptr& error) {
                        auto answer = std::make_shared<Answer>();
                        answer->step = result.step;
                        answer->seconds = result.seconds;
                        answer->packed = pack_result(result);
                        answer->error = error;
                        mailbox->post([this, answer](Napi::Env) {
                          answers_.push_back(std::move(*answer));
                          if (!collects_.empty()) hand_out();
                          arrived();
                        });
                      });
    expect();
    submitted_++;
    return Napi::Number::New(info.Env(), step);
  });
}

Napi::Value EngineObject::collect(const Napi::CallbackInfo& info) {
  const auto deferred = Napi::Promise::Deferred::New(info.Env());
  try {
    Engine& target = engine();
    if (submitted_ == 0) {
      target.throw_if_dead();
      throw Error(kInvalidArgument, "collect: no step is in flight");
    }
    submitted_--;
    collects_.push_back(deferred);
    if (!answers_.empty()) hand_out();
  } catch (...) {
    deferred.Reject(to_js_error(info.Env(), std::current_exception()));
  }
  return deferred.Promise();
}

// The oldest answer to the oldest collect; without an answer (disposed meanwhile) a rejection.
void EngineObject::hand_out() {
  const Napi::Env env = Env();
  const Napi::Promise::Deferred deferred = collects_.front();
  collects_.pop_front();
  if (answers_.empty()) {
    deferred.Reject(to_js_error(
        env, std::make_exception_ptr(Error(kEngineDisposed, "the engine is disposed"))));
    return;
  }
  const Answer answer = std::move(answers_.front());
  answers_.pop_front();
  if (engine_ != nullptr) engine_->retire();
  if (answer.error != nullptr) {
    deferred.Reject(to_js_error(env, answer.error));
  } else {
    deferred.Resolve(step_result(env, answer.step, answer.seconds, answer.packed));
  }
}

Napi::Value EngineObject::stats(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] { return engine_stats(info.Env(), engine().stats()); });
}

// --- Artifacts
// ------------------------------------------------------------------------------------------------------

CommandDone EngineObject::settle_later(const SharedDeferred& deferred,
                                       std::function<Napi::Value(Napi::Env)> after) {
  expect();
  return [this, mailbox = mailbox_, deferred,
          after = std::move(after)](const std::exception_ptr& error) {
    mailbox->post([this, deferred, after, error](Napi::Env env) {
      const Napi::Value value = after(env);
      if (error != nullptr) {
        deferred->Reject(to_js_error(env, error));
      } else {
        deferred->Resolve(value);
      }
      arrived();
    });
  };
}

Napi::Value EngineObject::load_artifact(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const auto deferred = std::make_shared<Napi::Promise::Deferred>(env);
  try {
    Engine& target = engine();
    const int32_t slot = parse_slot(info[0]);
    const std::string path = parse_text(info[1], "path");
    const std::string fingerprint = parse_text(info[2], "fingerprint");
    target.reserve_slot(slot);
    struct Loaded {
      std::shared_ptr<Engine> engine;
      Artifact artifact;
      ArtifactDescription info;
      std::unique_ptr<Encoder> encoder;
    };
    const auto loaded = std::make_shared<Loaded>();
    loaded->engine = engine_;
    expect();
    auto* errand = new Errand(
        env,
        [loaded, path, fingerprint] {
          loaded->artifact = read_artifact(path);
          const auto made_for = loaded->artifact.metadata.find("model_fingerprint");
          const std::string theirs =
              made_for == loaded->artifact.metadata.end() ? "none" : made_for->second;
          if (theirs != fingerprint) {
            throw Error(kArtifactMismatch, "the artifact was made for model fingerprint " + theirs +
                                               ", this model's is " + fingerprint);
          }
          loaded->encoder = loaded->engine->encoder_for(loaded->artifact);
          loaded->info = describe(loaded->artifact);
          loaded->artifact = Artifact{};  // the encoder has what it needs
        },
        [this, deferred, loaded, slot](Napi::Env js, std::exception_ptr error) {
          const auto engine = std::move(loaded->engine);
          try {
            if (error != nullptr) std::rethrow_exception(error);
            if (engine_ == nullptr) throw Error(kEngineDisposed, "the engine is disposed");
            engine->set_encoder(slot, std::move(loaded->encoder),
                                settle_later(deferred, [this, loaded, slot](Napi::Env settled) {
                                  if (engine_ != nullptr) engine_->release_slot(slot);
                                  return artifact_info(settled, loaded->info);
                                }));
          } catch (...) {
            engine->release_slot(slot);
            rejected(js, deferred, std::current_exception());
          }
          arrived();
        });
    errand->Queue();
  } catch (...) {
    return rejected(env, deferred, std::current_exception());
  }
  return deferred->Promise();
}

Napi::Value EngineObject::unload_artifact(const Napi::CallbackInfo& info) {
  const auto deferred = std::make_shared<Napi::Promise::Deferred>(info.Env());
  try {
    Engine& target = engine();
    const int32_t slot = parse_slot(info[0]);
    target.reserve_slot(slot);
    target.set_encoder(slot, nullptr, settle_later(deferred, [this, slot](Napi::Env env) {
                         if (engine_ != nullptr) engine_->release_slot(slot);
                         return env.Undefined();
                       }));
  } catch (...) {
    return rejected(info.Env(), deferred, std::current_exception());
  }
  return deferred->Promise();
}

Napi::Value EngineObject::rehash(const Napi::CallbackInfo& info) {
  const auto deferred = std::make_shared<Napi::Promise::Deferred>(info.Env());
  try {
    Engine& target = engine();
    const int32_t slot = parse_slot(info[0]);
    std::vector<int32_t> blocks = parse_integers(info[1], "blocks");
    std::vector<int32_t> filled = parse_integers(info[2], "filled");
    target.check_rehash(slot, blocks, filled);
    // Filled in below: the answer comes by the mailbox, so never before this call has returned.
    const auto seconds = std::make_shared<std::shared_ptr<const double>>();
    *seconds = target.rehash(slot, std::move(blocks), std::move(filled),
                             settle_later(deferred, [seconds](Napi::Env env) {
                               return Napi::Number::New(env, **seconds);
                             }));
  } catch (...) {
    return rejected(info.Env(), deferred, std::current_exception());
  }
  return deferred->Promise();
}

Napi::Value EngineObject::fill(const Napi::CallbackInfo& info) {
  const auto deferred = std::make_shared<Napi::Promise::Deferred>(info.Env());
  try {
    Engine& target = engine();
    std::vector<int32_t> blocks = parse_integers(info[0], "blocks");
    const uint64_t seed = parse_seed(info[1], "seed");
    target.check_fill(blocks);
    target.fill(std::move(blocks), seed,
                settle_later(deferred, [](Napi::Env env) { return env.Undefined(); }));
  } catch (...) {
    return rejected(info.Env(), deferred, std::current_exception());
  }
  return deferred->Promise();
}

}  // namespace spotlight
