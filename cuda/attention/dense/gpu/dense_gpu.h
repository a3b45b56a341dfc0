// Dense attention over the paged cache of a layer. The kernels are FlashInfer's: its
// FlashAttention-3 for prefill on Hopper, its FlashAttention-2 elsewhere, and its prefill kernel
// with one query for decode, since its decode kernel knows only some group sizes; head_dim 96,
// which FlashInfer lacks, is a kernel of our own. Block tables are read where the device keeps them
// and work is planned on the host once a step, so a layer is one launch for prefill and two for
// decode.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "attention/dense/gpu/schedule.h"
#include "attention/gpu/view.h"

namespace spotlight::gpu {

// The rows of a step that attend densely, and the buffers that serve them: about
// (max_rows + 2 * multiprocessors / kv_heads) * query_heads * head_dim floats on the device. Its
// device addresses never change, so a graph captured with one set of rows serves every later set of
// the same bucket. A step whose layers differ in which rows are dense needs a plan a difference.
class DensePlan {
 public:
  // shape: query_heads a multiple of kv_heads, at most 16 times; head_dim 64, 96, 128 or 256;
  // seats * table_stride < 2^25. Throws MODEL_UNSUPPORTED naming the field, INVALID_ARGUMENT,
  // OUT_OF_MEMORY.
  explicit DensePlan(const DenseShape& shape);
  ~DensePlan();
  DensePlan(const DensePlan&) = delete;
  DensePlan& operator=(const DensePlan&) = delete;

  // Replaces the rows and uploads the plan, in the order of `stream`; never during a capture.
  // bucket 0: launches are sized for these rows. Otherwise every row has one token, their number is
  // at most bucket, and launches depend on bucket alone. Waits only when three uploads before this
  // one have not reached the device.
  void set(const DenseRow* rows, int32_t count, int32_t bucket, cudaStream_t stream);

  bool empty() const;

  struct State;
  const State& state() const { return *state_; }

 private:
  std::unique_ptr<State> state_;
};

// Attends all rows of the plan in one layer; K and V of the rows themselves are in the cache
// already. Writes out of the plan's tokens and nothing else. No synchronisation, capturable when
// the plan was set with a bucket.
//   tables: [seats, table_stride] on the device; entry p / 64 holds position p
//   q: [tokens, query_heads, head_dim], row i at q + i * q_stride; 16-byte aligned, q_stride a
//      multiple of 8
//   out: [tokens, query_heads, head_dim], contiguous, 16-byte aligned
//   tokens: rows of q and out
// T: __nv_bfloat16 or __half. Logits are scaled by 1 / sqrt(head_dim).
template <typename T>
void dense_attention(const DensePlan& plan, const Cache<T>& cache, const int32_t* tables,
                     const T* q, int64_t q_stride, T* out, int32_t tokens, cudaStream_t stream);

}  // namespace spotlight::gpu
