// The model's element-wise ops on a GPU, over rows of 16-bit values (T: __nv_bfloat16 or __half).
// Norms are FlashInfer's; the rest are a few lines each, since a decode step has one row and wants
// it spread over many blocks, which FlashInfer's (one block a row) does not do. Widths are
// multiples of 8 and rows 16-byte aligned: everything moves 16 bytes a thread.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>

#include "device/cuda/block_tables.h"

namespace spotlight::gpu {

// Where a launch goes. early: it may start up while the one in front drains (programmatic dependent
// launch, sm_90 and newer); every kernel here waits for that one's end before it reads or writes.
struct Queue {
  cudaStream_t stream = nullptr;
  bool early = false;
};

// Rows of a value: row i starts at data + i * stride.
template <typename T>
struct Rows {
  T* data = nullptr;
  int64_t stride = 0;
  int64_t columns = 0;
};

// out[i] = table[feeds[i] < 0 ? ids[i] : draws[feeds[i]]]. A draw that failed (-1) feeds token 0:
// what it feeds does not matter any more, but must be a token.
template <typename T>
void embed(const T* table, const int32_t* ids, const int32_t* feeds, const int32_t* draws,
           int32_t rows, Rows<T> out, Queue queue);

template <typename T>
void rms_norm(Rows<T> x, const T* gain, float epsilon, int32_t rows, Rows<T> out, Queue queue);
// residual += x; x = rms_norm(residual), both in place.
template <typename T>
void add_rms_norm(Rows<T> residual, Rows<T> x, const T* gain, float epsilon, int32_t rows,
                  Queue queue);
// Each head_dim of every row, in place. gain: [head_dim].
template <typename T>
void head_norm(Rows<T> x, const T* gain, int32_t head_dim, float epsilon, int32_t rows,
               Queue queue);
template <typename T>
void silu_mul(Rows<T> gate, Rows<T> up, int32_t rows, Rows<T> out, Queue queue);
template <typename T>
void add(Rows<T> a, Rows<T> b, int32_t rows, Rows<T> out, Queue queue);
// out[i] = x[index[i]].
template <typename T>
void gather(Rows<T> x, const int32_t* index, int32_t rows, Rows<T> out, Queue queue);

// tables[run.seat * stride + run.from + i] = entries[run.offset + i]. Runs and entries may lie in
// pinned host memory.
void update_tables(const TableRun* runs, int32_t run_count, const int32_t* entries, int32_t longest,
                   int32_t* tables, int32_t stride, cudaStream_t stream);

// `bytes` at `from` to `to`, and so on for `layers` places, each `pitch` bytes behind the one
// before. Multiples of 16.
void copy_block(const std::byte* from, std::byte* to, size_t bytes, size_t pitch, int32_t layers,
                cudaStream_t stream);

// What the kernels in force were compiled for, 10 * major + minor: less than the device has when it
// runs PTX of an older one, whose kernels know nothing of early launches.
int32_t compiled_capability();

// A kernel that ends in an illegal instruction: the fault that tests inject.
void trap(cudaStream_t stream);

}  // namespace spotlight::gpu
