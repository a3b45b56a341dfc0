// The engine as a JS object. The face TypeScript puts on it is in index.ts; here each method
// parses, works without JS, and answers. Everything the engine thread has to say goes through one
// thread-safe function, so answers keep the order in which they happened.
#pragma once

#include <napi.h>

#include <deque>
#include <functional>
#include <memory>
#include <mutex>

#include "engine/engine.h"

namespace spotlight {

// Carries closures from any thread to the JS thread, in order. It holds the process open only while
// answers are awaited, and is dead from the moment the JS environment tears its queue down, which
// may come before the engine's own end.
class Mailbox {
 public:
  static std::shared_ptr<Mailbox> make(Napi::Env env);
  // Any thread. After close() the closure is dropped.
  void post(std::function<void(Napi::Env)> closure);
  // The JS thread: an answer is awaited, or has come.
  void expect(Napi::Env env);
  void arrived(Napi::Env env);
  // No more closures; those posted already still run.
  void close();

 private:
  Napi::ThreadSafeFunction function_;
  std::mutex mutex_;
  bool closed_ = false;
  int awaited_ = 0;
};

class EngineObject final : public Napi::ObjectWrap<EngineObject> {
 public:
  static Napi::Function define(Napi::Env env);
  explicit EngineObject(const Napi::CallbackInfo& info);
  ~EngineObject() override;
  // [async] Opens model and engine on a worker thread; resolves with an EngineObject.
  static Napi::Value create(const Napi::CallbackInfo& info);

 private:
  Engine& engine();
  void adopt(std::shared_ptr<Engine> engine);
  // An answer is awaited, or has come: object and process stay while one is.
  void expect();
  void arrived();
  // What the engine thread calls when a command is done: settles the promise on the JS thread with
  // what `after` returns.
  CommandDone settle_later(const std::shared_ptr<Napi::Promise::Deferred>& deferred,
                           std::function<Napi::Value(Napi::Env)> after);
  void hand_out();

  Napi::Value info(const Napi::CallbackInfo& info);             // [sync]
  Napi::Value tokenizer(const Napi::CallbackInfo& info);        // [sync]
  Napi::Value set_attention(const Napi::CallbackInfo& info);    // [sync]
  Napi::Value open_sequence(const Napi::CallbackInfo& info);    // [sync]
  Napi::Value submit(const Napi::CallbackInfo& info);           // [sync]
  Napi::Value collect(const Napi::CallbackInfo& info);          // [async]
  Napi::Value load_artifact(const Napi::CallbackInfo& info);    // [async]
  Napi::Value unload_artifact(const Napi::CallbackInfo& info);  // [async]
  Napi::Value rehash(const Napi::CallbackInfo& info);           // [async]
  Napi::Value fill(const Napi::CallbackInfo& info);             // [async]
  Napi::Value stats(const Napi::CallbackInfo& info);            // [sync]
  Napi::Value dispose(const Napi::CallbackInfo& info);          // [async]

  struct Answer {
    int32_t step = 0;
    double seconds = 0;
    PackedResult packed;
    std::exception_ptr error;
  };
  std::shared_ptr<Engine> engine_;
  std::shared_ptr<Mailbox> mailbox_;
  int submitted_ = 0;  // steps not yet claimed by a collect
  std::deque<Answer> answers_;
  std::deque<Napi::Promise::Deferred> collects_;
};

}  // namespace spotlight
