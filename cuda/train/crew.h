// Threads for the trainer's loops: numbered tasks taken in order by whoever is free. Results never
// depend on who took which, because every task writes only what is its own; sums over tasks are
// made after, in the order of their numbers.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace spotlight::train {

class Crew {
 public:
  // The calling thread is one of them.
  explicit Crew(int32_t threads);
  ~Crew();
  Crew(const Crew&) = delete;
  Crew& operator=(const Crew&) = delete;

  int32_t threads() const { return static_cast<int32_t>(threads_.size()) + 1; }
  // Calls body(task, thread) for each task below count and returns when all are done; throws what
  // the first to fail threw. thread < threads() tells scratch apart.
  void run(int32_t count, const std::function<void(int32_t task, int32_t thread)>& body);

 private:
  void work(int32_t thread);
  void loop(int32_t thread);

  std::mutex mutex_;
  std::condition_variable wake_, done_;
  const std::function<void(int32_t, int32_t)>* body_ = nullptr;
  int32_t count_ = 0, next_ = 0, busy_ = 0;
  uint64_t round_ = 0;
  bool stopping_ = false;
  std::exception_ptr fault_;
  std::vector<std::thread> threads_;
};

}  // namespace spotlight::train
