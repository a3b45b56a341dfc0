// The threads that run one custom op together: who I am, how many we are, where we meet, and
// scratch. Waiting spins: a step's threads are all running (the pool polls), and a sleep would
// cost more than a layer. A wait of some tens of microseconds means that a partner has lost its
// core: then it yields, and at last naps, since an idle core is what brings the partner over. A
// thread that fails breaks the barrier, and all who wait or will wait throw TeamBroken.
#pragma once

#include <sched.h>
#include <time.h>

#include <atomic>
#include <cstddef>
#include <cstdint>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace spotlight {

struct TeamBroken {};  // another thread of the team has failed and told why

class SpinBarrier {
 public:
  void wait(int32_t count) {
    if (count <= 1) return;
    if (broken_.load(std::memory_order_relaxed)) throw TeamBroken();
    const uint32_t generation = generation_.load(std::memory_order_acquire);
    if (arrived_.fetch_add(1, std::memory_order_acq_rel) == count - 1) {
      arrived_.store(0, std::memory_order_relaxed);
      generation_.store(generation + 1, std::memory_order_release);
    }
    wait_until([&] { return generation_.load(std::memory_order_acquire) != generation; });
  }
  // Until done(), which another thread of the team brings about.
  template <typename Done>
  void wait_until(Done done) {
    for (int32_t spins = 0; !done(); spins++) {
      if (broken_.load(std::memory_order_relaxed)) throw TeamBroken();
      if (spins < kPauses) {
#if defined(__x86_64__)
        _mm_pause();
#endif
      } else if (spins < kPauses + kYields) {
        sched_yield();
      } else {
        const timespec nap = {0, 20000};
        nanosleep(&nap, nullptr);
      }
    }
  }
  void break_up() { broken_.store(true, std::memory_order_relaxed); }
  // Once all threads have left: the next step may meet again.
  void mend() {
    arrived_.store(0, std::memory_order_relaxed);
    broken_.store(false, std::memory_order_relaxed);
  }

 private:
  static constexpr int32_t kPauses = 1000, kYields = 500;
  alignas(64) std::atomic<int32_t> arrived_{0};
  alignas(64) std::atomic<uint32_t> generation_{0};
  std::atomic<bool> broken_{false};
};

struct Team {
  int32_t ith = 0;  // this thread, 0 <= ith < nth
  int32_t nth = 1;
  SpinBarrier* barrier = nullptr;
  std::byte* scratch = nullptr;  // this thread's own, 64-byte aligned
  std::byte* shared = nullptr;   // the team's, 64-byte aligned, alike for every thread
  std::atomic<int32_t>* ticket =
      nullptr;  // work counter the team shares; reset by thread 0 between two barriers

  void meet() const {
    if (nth > 1) barrier->wait(nth);
  }
  // For what another thread of the team does before it meets again.
  template <typename Done>
  void wait_until(Done done) const {
    if (!done()) barrier->wait_until(done);
  }
};

}  // namespace spotlight
