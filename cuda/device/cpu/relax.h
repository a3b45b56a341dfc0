/* Included before ggml's CPU sources (cmake/ggml.cmake): what a thread does while it waits for the
 * others in ggml's barrier. ggml only pauses; when a waited-for thread has lost its core to another
 * (Node's own, say) that burns whole time slices. Here a long wait yields, then sleeps: an idle
 * core is what makes the scheduler move the missing thread over. Plain C, as ggml is. */
#ifndef SPOTLIGHT_DEVICE_CPU_RELAX_H_
#define SPOTLIGHT_DEVICE_CPU_RELAX_H_

#if defined(__x86_64__) && defined(__linux__)
#include <immintrin.h>
#include <sched.h>
#include <stdint.h>
#include <time.h>
#include <x86intrin.h>

static inline void spotlight_relax(void) {
  /* In cycles of the time-stamp counter, 2 to 4 a nanosecond. */
  const uint64_t gap = 20000, pause_for = 6000, yield_for = 2000000;
  static __thread uint64_t begun, last;
  uint64_t now = __rdtsc();
  if (now - last > gap) begun = now; /* a new wait */
  last = now;
  if (now - begun < pause_for) {
    _mm_pause();
    return;
  }
  if (now - begun < yield_for) {
    sched_yield();
  } else {
    const struct timespec nap = {0, 20000};
    nanosleep(&nap, 0);
  }
  last = __rdtsc();
}
#define _mm_pause spotlight_relax
#endif

#endif
