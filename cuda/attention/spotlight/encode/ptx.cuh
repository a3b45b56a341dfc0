// The few instructions CUDA C++ has no plain word for: tensor core products, streamed loads,
// clusters with their distributed shared memory, and programmatic dependent launch. On GPUs before
// sm_90 a cluster is one block and a launch waits for the one before it as a whole.
#pragma once

#include <cstdint>

namespace spotlight::gpu::ptx {

// d [16, 8] += a [16, 16] * b [16, 8], bf16 to fp32, as mma.m16n8k16 divides them over a warp.
__device__ inline void mma_bf16(float (&d)[4], const uint32_t (&a)[4], uint2 b) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b.x), "r"(b.y));
}

// Eight bytes that no one on this multiprocessor reads again: past the L1.
__device__ inline uint2 load_streamed(const void* from) {
  uint2 value;
  asm volatile("ld.global.nc.L1::no_allocate.L2::256B.v2.u32 {%0, %1}, [%2];"
               : "=r"(value.x), "=r"(value.y)
               : "l"(from));
  return value;
}

__device__ inline void prefetch_l2(const void* from) {
  asm volatile("prefetch.global.L2 [%0];" ::"l"(from));
}

// Programmatic dependent launch: what the launch before this one wrote may be read after
// wait_for_inputs; let_next_start lets the launch after this one begin what does not depend on it.
__device__ inline void wait_for_inputs() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}
__device__ inline void let_next_start() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

// Every thread of every block of the cluster arrives, then waits: all blocks run, and what was done
// to a Mailbox before is seen. Orders nothing else.
__device__ inline void cluster_arrive() {
#if __CUDA_ARCH__ >= 900
  asm volatile("barrier.cluster.arrive.relaxed.aligned;" ::: "memory");
#endif
}
__device__ inline void cluster_wait() {
#if __CUDA_ARCH__ >= 900
  asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
#endif
}

// Counts bytes that blocks of the cluster store into this block's shared memory. Waiting for them
// orders nothing else: a barrier of the whole cluster would wait for every block's stores to device
// memory, too. Where a cluster is one block, nothing is counted, and a barrier must follow the
// stores.
struct Mailbox {
  uint64_t barrier;

  // One thread, before cluster_arrive.
  __device__ void open() {
#if __CUDA_ARCH__ >= 900
    const auto address = static_cast<uint32_t>(__cvta_generic_to_shared(&barrier));
    asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;" ::"r"(address) : "memory");
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
#endif
  }
  // One thread, once, before or after bytes arrive.
  __device__ void expect(uint32_t bytes) {
#if __CUDA_ARCH__ >= 900
    const auto address = static_cast<uint32_t>(__cvta_generic_to_shared(&barrier));
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(address), "r"(bytes)
                 : "memory");
#endif
  }
  // Any thread: until all that is expected has arrived.
  __device__ void wait() {
#if __CUDA_ARCH__ >= 900
    const auto address = static_cast<uint32_t>(__cvta_generic_to_shared(&barrier));
    asm volatile(
        "{\n"
        ".reg .pred there;\n"
        "again:\n"
        "mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 there, [%0], 0;\n"
        "@!there bra again;\n"
        "}\n" ::"r"(address)
        : "memory");
#endif
  }
};

// Stores to where `to` lies in the shared memory of the cluster's block `rank`, whose mailbox, at
// the same place in every block, counts it.
__device__ inline void send(float4* to, Mailbox* mailbox, uint32_t rank, float4 value) {
#if __CUDA_ARCH__ >= 900
  uint32_t address = static_cast<uint32_t>(__cvta_generic_to_shared(to));
  uint32_t counter = static_cast<uint32_t>(__cvta_generic_to_shared(&mailbox->barrier));
  asm volatile("mapa.shared::cluster.u32 %0, %0, %1;" : "+r"(address) : "r"(rank));
  asm volatile("mapa.shared::cluster.u32 %0, %0, %1;" : "+r"(counter) : "r"(rank));
  asm volatile(
      "st.async.shared::cluster.mbarrier::complete_tx::bytes.v4.f32 [%0], {%1, %2, %3, %4}, "
      "[%5];" ::"r"(address),
      "f"(value.x), "f"(value.y), "f"(value.z), "f"(value.w), "r"(counter)
      : "memory");
#else
  *to = value;
#endif
}

// The block's dynamic shared memory, 16-byte aligned.
__device__ inline unsigned char* shared_memory() {
  extern __shared__ __align__(16) unsigned char memory[];
  return memory;
}

}  // namespace spotlight::gpu::ptx
