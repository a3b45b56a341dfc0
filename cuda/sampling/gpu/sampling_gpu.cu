// The kernels of a draw, in their order: greatest logits of chunks (with the edits applied), cuts,
// weights and their sums by run, and the walk to the token. A row is spread over many blocks, so
// that one row of a large vocabulary takes no longer than many.
#include <algorithm>

#include "device/cuda/runtime/cuda_error.h"
#include "sampling/gpu/order.cuh"
#include "sampling/gpu/sampling_gpu.h"
#include "sampling/gpu/select.cuh"
#include "sampling/philox/philox.h"

namespace spotlight::gpu {
namespace {

constexpr int kLanes = 16;  // of softmax.cc's sums
constexpr int kPitch =
    kRun + kLanes;  // of a run in shared memory: the lanes of two lie in all banks

__device__ int32_t first_edit_from(const LogitEdit* edits, int32_t begin, int32_t end,
                                   int32_t token) {
  while (begin < end) {
    const int32_t middle = begin + (end - begin) / 2;
    if (edits[middle].token < token)
      begin = middle + 1;
    else
      end = middle;
  }
  return begin;
}

// Steps 2 and 3 of sampling.h on the tokens [begin, end) of an edited row.
__device__ void apply_edits(const DrawRow& row, const LogitEdit* edits, int32_t begin, int32_t end,
                            float* logits) {
  const int32_t from = first_edit_from(edits, row.edit_begin, row.edit_end, begin);
  const int32_t until = first_edit_from(edits, from, row.edit_end, end);
  for (int32_t i = from + static_cast<int32_t>(threadIdx.x); i < until; i += blockDim.x) {
    const LogitEdit& edit = edits[i];
    if (i + 1 < until && edits[i + 1].token == edit.token) continue;
    int32_t first = i;
    while (first > from && edits[first - 1].token == edit.token) first--;
    float x = logits[edit.token];
    for (int32_t j = first; j <= i; j++) x = exact::add(x, edits[j].bias);
    if ((edit.flags & kEditBanned) != 0) x = -INFINITY;
    if ((edit.flags & kEditRepeated) != 0) x = exact::repeat(x, row.repetition);
    if (edit.drawn > 0) x = exact::count_drawn(x, row.frequency, row.presence, edit.drawn);
    logits[edit.token] = x;
  }
}

template <typename T>
__global__ void __launch_bounds__(kThreads) find_best(Draw<T> draw) {
  const int32_t index = blockIdx.y;
  const DrawRow& params = draw.rows[index];
  if (params.seat < 0) return;
  const int32_t begin = blockIdx.x * kChunk;
  const int32_t end = min(draw.vocab, begin + kChunk);
  const Row<T> row = draw.row(index);
  if (row.edited != nullptr) {
    float* edited = draw.edited + index * draw.edited_stride;
    for_each_logit(row.raw, begin, end, [&](int32_t i, float x) { edited[i] = x; });
    __syncthreads();
    apply_edits(params, draw.edits, begin, end, edited);
    __syncthreads();
  }
  uint64_t best = 0;
  row.for_each(begin, end, [&](int32_t i, float x) {
    const uint64_t own = best_of(x, i);
    best = own > best ? own : best;
  });
  best = block_max(best);
  if (threadIdx.x == 0) draw.best[static_cast<int64_t>(index) * draw.chunks + blockIdx.x] = best;
}

// Weights of tokens [begin, end), 0 where cut, into shared runs of kPitch.
template <typename T>
__device__ void weigh(const Row<T>& row, const DrawRow& params, float max, uint64_t cut,
                      int32_t begin, int32_t end, float* weights) {
  row.for_each(begin, end, [&](int32_t i, float logit) {
    const float x = exact::mul(logit, params.inverse);
    const int32_t at = i - begin;
    weights[at / kRun * kPitch + at % kRun] =
        place_of(x, i) <= cut ? exact::exp_straight(exact::add(x, -max)) : 0.f;
  });
}

// softmax.cc's sum_of for the runs of a chunk: 16 lanes a run, each in order, added in double.
template <typename T>
__global__ void __launch_bounds__(kThreads) sum_runs(Draw<T> draw, bool with_cuts) {
  __shared__ float weights[kChunk / kRun * kPitch];
  __shared__ float lanes[kChunk / kRun * kLanes];
  const int32_t index = blockIdx.y;
  const Outlook outlook = gpu::outlook(draw, index);
  if (outlook.ending != Ending::kDraw) return;
  const int32_t begin = blockIdx.x * kChunk;
  const int32_t end = min(draw.vocab, begin + kChunk);
  weigh(draw.row(index), draw.rows[index], outlook.max, with_cuts ? draw.cuts[index] : kKeepAll,
        begin, end, weights);
  __syncthreads();
  const int32_t run = threadIdx.x / kLanes, lane = threadIdx.x % kLanes;
  const int32_t size = min(kRun, end - begin - run * kRun);
  if (run < kChunk / kRun && size > 0) {
    const float* own = weights + run * kPitch;
    float sum = 0.f;
    int32_t i = 0;
    for (; i + kLanes <= size; i += kLanes) sum = exact::add(sum, own[i + lane]);
    for (; lane == 0 && i < size; i++) sum = exact::add(sum, own[i]);
    lanes[threadIdx.x] = sum;
  }
  __syncthreads();
  if (run < kChunk / kRun && size > 0 && lane == 0) {
    double sum = 0;
    for (int32_t i = 0; i < kLanes; i++)
      sum = exact::add(sum, static_cast<double>(lanes[threadIdx.x + i]));
    draw.run_sums[static_cast<int64_t>(index) * draw.runs + begin / kRun + run] = sum;
  }
}

struct Walk {
  double before, target;
  int32_t run, last, token;
};

// sampling.cc's inverse_cdf: whole runs are skipped by their sums, the one where the target lies is
// walked token by token.
template <typename T>
__device__ int32_t walk(const Draw<T>& draw, int32_t index, float max, uint64_t cut) {
  __shared__ float weights[kPitch];
  __shared__ double sums[kThreads];
  __shared__ Walk shared;
  const DrawRow& params = draw.rows[index];
  const double* run_sums = draw.run_sums + static_cast<int64_t>(index) * draw.runs;
  Walk own{0, 0, 0, -1, -1};  // thread 0's
  for (int32_t pass = 0; pass < 2; pass++) {
    bool found = false;
    double total = 0;
    for (int32_t from = 0; from < draw.runs; from += kThreads) {
      __syncthreads();
      if (from + static_cast<int32_t>(threadIdx.x) < draw.runs)
        sums[threadIdx.x] = run_sums[from + threadIdx.x];
      __syncthreads();
      if (threadIdx.x != 0) continue;
      const int32_t count = min(kThreads, draw.runs - from);
      if (pass == 0) {
        for (int32_t i = 0; i < count; i++) total = exact::add(total, sums[i]);
      } else {
        for (int32_t i = 0; i < count && !found; i++) {
          own.run = from + i;
          const double next = exact::add(own.before, sums[i]);
          found = !(next <= own.target && own.run + 1 < draw.runs);
          if (!found) own.before = next;
        }
      }
    }
    if (pass == 0 && threadIdx.x == 0)
      own.target = exact::mul(
          philox_uniform(params.seed, params.choice, static_cast<uint64_t>(params.position)),
          total);
  }
  for (;;) {
    if (threadIdx.x == 0) shared = own;
    __syncthreads();
    if (shared.token >= 0 || shared.run >= draw.runs) break;
    const int32_t begin = shared.run * kRun;
    const int32_t end = min(draw.vocab, begin + kRun);
    weigh(draw.row(index), params, max, cut, begin, end, weights);
    __syncthreads();
    if (threadIdx.x == 0) {
      double sum = own.before;
      for (int32_t i = 0; i < end - begin && own.token < 0; i++) {
        const float weight = weights[i];
        if (weight == 0) continue;
        own.last = begin + i;
        sum = exact::add(sum, static_cast<double>(weight));
        if (sum > own.target) own.token = own.last;
      }
      own.before = exact::add(own.before, run_sums[own.run]);
      // Past a run that was walked in vain, one whose sum does not reach the target is skipped.
      for (own.run++; own.run + 1 < draw.runs; own.run++) {
        const double next = exact::add(own.before, run_sums[own.run]);
        if (!(next <= own.target)) break;
        own.before = next;
      }
    }
  }
  return shared.token >= 0 ? shared.token : shared.last;
}

template <typename T>
__global__ void __launch_bounds__(kThreads)
    finish_rows(Draw<T> draw, bool with_cuts, int32_t* last_draw, int32_t* draws) {
  const int32_t index = blockIdx.x;
  const Outlook outlook = gpu::outlook(draw, index);
  const int32_t token =
      outlook.ending == Ending::kDraw
          ? walk(draw, index, outlook.max, with_cuts ? draw.cuts[index] : kKeepAll)
          : outlook.greatest;
  if (threadIdx.x != 0) return;
  draws[index] = token;
  const int32_t seat = draw.rows[index].seat;
  if (seat >= 0) last_draw[seat] = token;
}

template <typename T>
__global__ void __launch_bounds__(kThreads)
    copy_rows(const T* logits, int64_t stride, int32_t vocab, const int32_t* rows, float* out) {
  const int32_t begin = blockIdx.x * kChunk;
  float* own = out + static_cast<int64_t>(blockIdx.y) * vocab;
  for_each_logit(logits + rows[blockIdx.y] * stride, begin, min(vocab, begin + kChunk),
                 [&](int32_t i, float x) { own[i] = x; });
}

int32_t pieces(int32_t count, int32_t size) { return (count + size - 1) / size; }

// Where each array of the workspace begins.
struct Workspace {
  int64_t edited_stride, chunks, runs;
  size_t best, cuts, run_sums, edited, bytes;
  Workspace(int64_t rows, int32_t vocab)
      : edited_stride((int64_t{vocab} + 3) / 4 * 4),
        chunks(pieces(vocab, kChunk)),
        runs(pieces(vocab, kRun)) {
    const auto after = [](size_t begin, size_t bytes) { return (begin + bytes + 255) / 256 * 256; };
    best = 0;
    cuts = after(best, rows * chunks * sizeof(uint64_t));
    run_sums = after(cuts, rows * sizeof(uint64_t));
    edited = after(run_sums, rows * runs * sizeof(double));
    bytes = after(edited, rows * edited_stride * sizeof(float));
  }
};

}  // namespace

size_t draw_workspace_bytes(int32_t max_rows, int32_t vocab) {
  return Workspace(max_rows, vocab).bytes;
}

template <typename T>
void draw(const T* logits, int64_t stride, int32_t vocab, const DrawRow* rows,
          const LogitEdit* edits, int32_t count, bool with_cuts, int32_t* last_draw, int32_t* draws,
          void* workspace, cudaStream_t cuda_stream) {
  if (count == 0) return;
  const Workspace places(count, vocab);
  char* base = static_cast<char*>(workspace);
  Draw<T> draw;
  draw.logits = logits;
  draw.stride = stride;
  draw.vocab = vocab;
  draw.chunks = static_cast<int32_t>(places.chunks);
  draw.runs = static_cast<int32_t>(places.runs);
  draw.rows = rows;
  draw.edits = edits;
  draw.edited = reinterpret_cast<float*>(base + places.edited);
  draw.edited_stride = places.edited_stride;
  draw.best = reinterpret_cast<uint64_t*>(base + places.best);
  draw.cuts = reinterpret_cast<uint64_t*>(base + places.cuts);
  draw.run_sums = reinterpret_cast<double*>(base + places.run_sums);

  const dim3 grid(draw.chunks, count);
  find_best<T><<<grid, kThreads, 0, cuda_stream>>>(draw);
  CUDA_CHECK_LAUNCH("find_best");
  if (with_cuts) {
    CUDA_CHECK(cudaFuncSetAttribute(cut_rows<T>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                    sizeof(SelectMemory)));
    cut_rows<T><<<count, kSelectThreads, sizeof(SelectMemory), cuda_stream>>>(draw);
    CUDA_CHECK_LAUNCH("cut_rows");
  }
  sum_runs<T><<<grid, kThreads, 0, cuda_stream>>>(draw, with_cuts);
  CUDA_CHECK_LAUNCH("sum_runs");
  finish_rows<T><<<count, kThreads, 0, cuda_stream>>>(draw, with_cuts, last_draw, draws);
  CUDA_CHECK_LAUNCH("finish_rows");
}

template <typename T>
void gather_logits(const T* logits, int64_t stride, int32_t vocab, const int32_t* rows,
                   int32_t count, float* out, cudaStream_t cuda_stream) {
  if (count == 0) return;
  copy_rows<T><<<dim3(pieces(vocab, kChunk), count), kThreads, 0, cuda_stream>>>(logits, stride,
                                                                                 vocab, rows, out);
  CUDA_CHECK_LAUNCH("copy_rows");
}

#define SPOTLIGHT_INSTANTIATE(T)                                                               \
  template void draw<T>(const T*, int64_t, int32_t, const DrawRow*, const LogitEdit*, int32_t, \
                        bool, int32_t*, int32_t*, void*, cudaStream_t);                        \
  template void gather_logits<T>(const T*, int64_t, int32_t, const int32_t*, int32_t, float*,  \
                                 cudaStream_t);
SPOTLIGHT_INSTANTIATE(__nv_bfloat16)
SPOTLIGHT_INSTANTIATE(__half)
SPOTLIGHT_INSTANTIATE(float)
#undef SPOTLIGHT_INSTANTIATE

}  // namespace spotlight::gpu
