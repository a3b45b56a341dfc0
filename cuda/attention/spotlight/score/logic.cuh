// Three-input logic as one LOP3 each, said outright: left to itself the compiler takes sums of bits
// apart and needs nearly twice as many. And a count in shared memory without a branch around it.
#pragma once

#include <cstdint>

namespace spotlight::gpu::ptx {

// (a ^ b) & c
__device__ inline uint32_t differing(uint32_t a, uint32_t b, uint32_t c) {
  uint32_t d;
  asm("lop3.b32 %0, %1, %2, %3, 0x28;" : "=r"(d) : "r"(a), "r"(b), "r"(c));
  return d;
}
// The sum of three bits, its low bit and its high bit.
__device__ inline uint32_t sum_bit(uint32_t a, uint32_t b, uint32_t c) {
  uint32_t d;
  asm("lop3.b32 %0, %1, %2, %3, 0x96;" : "=r"(d) : "r"(a), "r"(b), "r"(c));
  return d;
}
__device__ inline uint32_t carry_bit(uint32_t a, uint32_t b, uint32_t c) {
  uint32_t d;
  asm("lop3.b32 %0, %1, %2, %3, 0xe8;" : "=r"(d) : "r"(a), "r"(b), "r"(c));
  return d;
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
