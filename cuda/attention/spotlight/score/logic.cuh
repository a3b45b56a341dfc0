// Products of bits on the tensor cores, and a count in shared memory without a branch around it.
#pragma once

#include <cstdint>

namespace spotlight::gpu::ptx {

// d [16, 8] += counts of bits set both in a row of a [16, 256] and in a column of b [256, 8].
__device__ inline void count_common(int32_t (&d)[4], const uint32_t (&a)[4], uint32_t b0,
                                    uint32_t b1) {
  asm("mma.sync.aligned.m16n8k256.row.col.s32.b1.b1.s32.and.popc "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// A pointer into shared memory in the 32 bits that shared memory needs.
struct SharedCounters {
  uint32_t address;
  __device__ explicit SharedCounters(const uint32_t* counters)
      : address(static_cast<uint32_t>(__cvta_generic_to_shared(counters))) {}
  // Adds 1 to counter `index` if `counts`.
  __device__ void add(int32_t index, bool counts) const {
    asm volatile("{ .reg .pred p; setp.ne.u32 p, %1, 0; @p red.shared.add.u32 [%0], 1; }" ::"r"(
                     address + 4 * static_cast<uint32_t>(index)),
                 "r"(static_cast<uint32_t>(counts))
                 : "memory");
  }
};

}  // namespace spotlight::gpu::ptx
