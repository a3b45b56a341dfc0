// Work that takes longer than the JS thread may be kept.
#pragma once

#include <napi.h>

#include <exception>
#include <functional>
#include <utility>

namespace spotlight {

// Runs `work` on a libuv thread, then `after` on the JS thread with what it threw, if anything.
class Errand final : public Napi::AsyncWorker {
 public:
  Errand(Napi::Env env, std::function<void()> work,
         std::function<void(Napi::Env, std::exception_ptr)> after)
      : AsyncWorker(env), work_(std::move(work)), after_(std::move(after)) {}

 private:
  void Execute() override {
    try {
      work_();
    } catch (...) {
      error_ = std::current_exception();
    }
  }
  void OnOK() override { after_(Env(), error_); }

  std::function<void()> work_;
  std::function<void(Napi::Env, std::exception_ptr)> after_;
  std::exception_ptr error_;
};

}  // namespace spotlight
