#include "train/crew.h"

#include <utility>

namespace spotlight::train {

Crew::Crew(int32_t threads) {
  for (int32_t i = 1; i < threads; i++) threads_.emplace_back([this, i] { loop(i); });
}

Crew::~Crew() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void Crew::run(int32_t count, const std::function<void(int32_t, int32_t)>& body) {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    body_ = &body;
    count_ = count;
    next_ = 0;
    busy_ = static_cast<int32_t>(threads_.size());
    round_++;
  }
  wake_.notify_all();
  work(0);
  std::unique_lock<std::mutex> lock(mutex_);
  done_.wait(lock, [this] { return busy_ == 0; });
  body_ = nullptr;
  if (fault_ != nullptr) std::rethrow_exception(std::exchange(fault_, nullptr));
}

// Tasks take tens of microseconds and more, so a lock a task is nothing.
void Crew::work(int32_t thread) {
  while (true) {
    int32_t task = 0;
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      if (next_ >= count_) return;
      task = next_++;
    }
    try {
      (*body_)(task, thread);
    } catch (...) {
      const std::lock_guard<std::mutex> lock(mutex_);
      if (fault_ == nullptr) fault_ = std::current_exception();
      next_ = count_;
    }
  }
}

void Crew::loop(int32_t thread) {
  uint64_t seen = 0;
  while (true) {
    {
      std::unique_lock<std::mutex> lock(mutex_);
      wake_.wait(lock, [&] { return stopping_ || round_ != seen; });
      if (stopping_) return;
      seen = round_;
    }
    work(thread);
    const std::lock_guard<std::mutex> lock(mutex_);
    if (--busy_ == 0) done_.notify_one();
  }
}

}  // namespace spotlight::train
