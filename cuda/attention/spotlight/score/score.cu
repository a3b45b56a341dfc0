// A piece is a range of blocks of one query and virtual head. Its warps take blocks in turn, two
// tokens a lane, with several blocks on their way: codes do not depend on the launch before, so the
// first are asked for before it ends. Scores are counted in shared memory, stretch by stretch of
// the piece, and each histogram leaves the CTA as counts of "at least this score": such counts of
// several stretches may simply be added, and whoever reads them finds the threshold by looking at
// two neighbours.
#include <cuda_runtime.h>

#include "attention/gpu/pieces.cuh"
#include "attention/spotlight/encode/launch.cuh"
#include "attention/spotlight/encode/ptx.cuh"
#include "attention/spotlight/score/bits.cuh"
#include "attention/spotlight/score/score_gpu.h"
#include "device/cuda/runtime/cuda_error.h"

namespace spotlight::gpu {
namespace {

constexpr int32_t kThreads = 256;
constexpr int32_t kWarps = kThreads / 32;

// Shared memory: the histogram, [histogram()] counters.
template <int kWords, int kMagnitudes>
__global__ void __launch_bounds__(kThreads, 2) score_kernel(const ScoreOp op) {
  using Reader = Scorer<kWords, kMagnitudes>;
  using Code = typename Reader::Code;
  constexpr int32_t kDepth = Reader::kDepth;
  // Of a stretch, all warps take as many rounds of so many blocks.
  static_assert(64 % (kWarps * kDepth) == 0);
  __shared__ int32_t scratch[kWarps];
  auto* histogram = reinterpret_cast<uint32_t*>(ptx::shared_memory());
  const RetrievalShape& shape = op.workspace.shape;
  const int32_t heads = shape.virtual_heads(), selections = shape.selections();
  const int32_t words = kWords ? kWords : shape.words();
  const int32_t counters = shape.histogram(), bins = shape.bins();
  const int32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const int32_t items = heads * op.queries.shares[op.queries.count].score_start;
  const ptx::SharedCounters counted(histogram);
  bool waited = false;
  // The next launch reads q before it waits, so it may not begin before q is there.
  const auto wait = [&] {
    if (waited) return;
    ptx::wait_for_inputs();
    ptx::let_next_start();
    waited = true;
  };

  for (int32_t item = blockIdx.x; item < items; item += gridDim.x) {
    const Piece piece = find_score_piece(op.queries, heads, item);
    const Query query = op.queries.list[piece.query];
    const QueryShare share = op.queries.shares[piece.query];
    const int32_t start = op.queries.block_start[piece.query];
    const int32_t blocks = op.queries.block_start[piece.query + 1] - start;
    const int32_t first = part_start(blocks, piece.part, piece.parts);
    const int32_t last = part_start(blocks, piece.part + 1, piece.parts);
    const int32_t* table = op.tables + static_cast<int64_t>(query.seat) * op.table_stride;
    const int64_t linear =
        static_cast<int64_t>(heads) * start + static_cast<int64_t>(piece.head) * blocks;
    const int32_t kv_head = piece.head / selections, selection = piece.head % selections;
    const int32_t from = query.sink, to = query.context - query.recent;

    // Blocks of this warp: first + warp + kWarps * step.
    const int32_t steps = (last - first - warp + kWarps - 1) / kWarps;
    const uint32_t* codes = op.codes[query.plane] + selection * words +
                            static_cast<int64_t>(kv_head * kBlockSize + lane) * op.code_words;
    const auto block_words = static_cast<uint32_t>(shape.kv_heads * kBlockSize * op.code_words);
    Reader reader;
    int32_t entries = 0;
    Code held[kDepth][2];
    const auto fetch = [&](int32_t step, Code(&into)[2]) {
      if (step % 32 == 0) entries = table[min(first + warp + kWarps * (step + lane), last - 1)];
      const auto block = static_cast<uint32_t>(__shfl_sync(~0u, entries, step % 32));
      const uint32_t* at = codes + static_cast<uint64_t>(block) * block_words;
      into[0] = reader.load(at);
      into[1] = reader.load(at + 32 * op.code_words);
    };
    // The one code that the launch in front writes, the newest token's, counts only if no newest
    // tokens are taken in any case.
    if (query.recent == 0) wait();
#pragma unroll
    for (int32_t i = 0; i < kDepth; i++)
      if (i < steps) fetch(i, held[i]);
    for (int32_t i = threadIdx.x; i < counters; i += kThreads) histogram[i] = 0;
    wait();
    reader.set_query(op.query_codes + static_cast<int64_t>(piece.unit) * shape.query_words(),
                     words);
    __syncthreads();

    const bool several = piece.parts * share.stretches > 1;
    auto* together = reinterpret_cast<unsigned long long*>(
        op.workspace.at_least + static_cast<int64_t>(piece.unit) * counters);
    auto* own = reinterpret_cast<unsigned long long*>(
        op.workspace.at_least_of + stretch_slot(share, heads, piece.within) * counters);
    for (int32_t stretch = 0; stretch < share.stretches; stretch++, own += counters / 2) {
      const int32_t begin = stretch * share.stretch / kWarps;
      const int32_t end = min(steps, begin + share.stretch / kWarps);
      for (int32_t base = begin; base < end; base += kDepth) {
#pragma unroll
        for (int32_t i = 0; i < kDepth; i++) {
          const int32_t step = base + i;
          if (step >= end) break;
          int32_t scores[2];
          reader.score(held[i], scores);
          if (step + kDepth < steps) fetch(step + kDepth, held[i]);
          const int32_t block = first + warp + kWarps * step;
          const int32_t position = block * kBlockSize + lane;
          counted.add(scores[0], position >= from && position < to);
          counted.add(scores[1], position + 32 >= from && position + 32 < to);
          op.workspace.scores[(linear + block) * 32 + lane] =
              static_cast<uint32_t>(scores[1]) << 16 | scores[0];
        }
      }
      __syncthreads();

      // From counts of each score to counts of at least it: every thread sums a few, the first
      // thread the highest.
      const int32_t each = (bins + kThreads - 1) / kThreads;
      const int32_t top = bins - static_cast<int32_t>(threadIdx.x) * each;
      int32_t sum = 0, all;
      for (int32_t bin = max(top - each, 0); bin < top; bin++) sum += histogram[bin];
      sum = sum_before<kThreads>(sum, scratch, &all);
      for (int32_t bin = top - 1; bin >= max(top - each, 0); bin--)
        histogram[bin] = sum += histogram[bin];
      __syncthreads();
      auto* pairs = reinterpret_cast<unsigned long long*>(histogram);
      for (int32_t i = threadIdx.x; i < counters / 2; i += kThreads) {
        const unsigned long long pair = pairs[i];
        if (pair) atomicAdd(together + i, pair);
        if (several) own[i] = pair;
        pairs[i] = 0;
      }
      __syncthreads();
    }
  }
  wait();
}

template <int kWords, int kMagnitudes>
void launch(cudaStream_t stream, const ScoreOp& op) {
  const RetrievalShape& shape = op.workspace.shape;
  cudaLaunchConfig_t config = {};
  config.gridDim = dim3(static_cast<unsigned>(2 * shape.multiprocessors));
  config.blockDim = dim3(kThreads);
  config.dynamicSmemBytes = static_cast<size_t>(shape.histogram()) * sizeof(uint32_t);
  config.stream = stream;
  cudaLaunchAttribute early = {};
  early.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  early.val.programmaticStreamSerializationAllowed = 1;
  config.attrs = &early;
  config.numAttrs = shape.capability >= 90 ? 1 : 0;
  prefer_shared_memory(score_kernel<kWords, kMagnitudes>);
  CUDA_CHECK(cudaLaunchKernelEx(&config, score_kernel<kWords, kMagnitudes>, op));
}

}  // namespace

void score(cudaStream_t stream, const ScoreOp& op) {
  const RetrievalShape& shape = op.workspace.shape;
  if (shape.encoder == kNoEncoder || op.queries.count == 0) return;
  const bool aligned = op.code_words % 4 == 0;
  const bool mlp = shape.encoder == kMlp;
  if (aligned && shape.bits == 128)
    mlp ? launch<4, 0>(stream, op) : launch<4, 3>(stream, op);
  else if (aligned && shape.bits == 256)
    mlp ? launch<8, 0>(stream, op) : launch<8, 3>(stream, op);
  else
    mlp ? launch<0, 0>(stream, op) : launch<0, 3>(stream, op);
}

}  // namespace spotlight::gpu
