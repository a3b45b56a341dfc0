// Draws on a GPU, the very tokens run_logits_task draws from the same logits: the same arithmetic
// in the same order (sampling/exact.h), and sums whose order would matter are of integers. Launches
// depend on the number of rows alone and everything else is in device memory, so a graph captured
// once serves every mix of parameters.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "sampling/gpu/draw_rows.h"

namespace spotlight::gpu {

// Device memory that draw() works in, for up to max_rows rows.
size_t draw_workspace_bytes(int32_t max_rows, int32_t vocab);

// T: __nv_bfloat16, __half or float.
//   vocab: at most 2^19
//   logits: row i at logits + i * stride (elements), [rows, vocab]; not changed
//   rows: [count] on the device; edits: on the device, what the rows' ranges index
//   last_draw[seat], draws[i]: the drawn token, -1 when the row holds nothing finite or a NaN;
//   draws of rows with seat -1 are -1, last_draw is then left alone. draws may lie in pinned host
//   memory
//   workspace: draw_workspace_bytes(max_rows >= count, vocab), 256-byte aligned
// with_cuts false: no row has top_k, top_p or min_p in force, and their kernels are left out.
template <typename T>
void draw(const T* logits, int64_t stride, int32_t vocab, const DrawRow* rows,
          const LogitEdit* edits, int32_t count, bool with_cuts, int32_t* last_draw, int32_t* draws,
          void* workspace, cudaStream_t cuda_stream);

// out[i] = logits row rows[i] as f32, [count, vocab]; out may be pinned host memory: for rows whose
// log-probabilities the CPU works out (sampling/logprobs).
template <typename T>
void gather_logits(const T* logits, int64_t stride, int32_t vocab, const int32_t* rows,
                   int32_t count, float* out, cudaStream_t cuda_stream);

}  // namespace spotlight::gpu
