// A piece is a share of one query and virtual head: choose which of its blocks' tokens are read,
// list them as rows, gather and attend. What pieces leave each other is a partial state; the last
// one through merges, writes the output and leaves the workspace as it was found.
#include <cuda_runtime.h>

#include <climits>

#include "attention/spotlight/attend/attend_gpu.h"
#include "attention/spotlight/attend/choose.cuh"
#include "attention/spotlight/attend/combine.cuh"
#include "attention/spotlight/encode/ptx.cuh"
#include "attention/spotlight/score/bits.cuh"
#include "device/cuda/runtime/cuda_error.h"
#include "error.h"

namespace spotlight::gpu {
namespace {

// Two CTAs share a multiprocessor, or one and one of the score kernel: these fill what the tiles
// leave of its memory.
constexpr int32_t kListed = 1536;  // rows gathered at once: a multiple of 16 * kWarps
constexpr int32_t kEach = 3;       // blocks a thread looks at at once

template <typename T, int kDim>
struct Layout {
  using Tile = RowTile<T, kDim>;
  static constexpr int kThreads = Tile::kWarps * 32;
  static constexpr int kLooked = kThreads * kEach;  // blocks a CTA looks at at once
  static constexpr int kQ = Tile::kBytes;
  static constexpr int kRows = kQ + kMostRows * kDim * 2;
  static constexpr int kRead = kRows + kListed * 4;
  static constexpr int kFirst = kRead + kLooked * 8;
  static constexpr int kWhat = kFirst + kLooked * 4;
  static constexpr int kBytes = kWhat + kLooked * 4;
  static_assert(Tile::kBytes >= (Tile::kWarps * kMostRows * (kDim + 2) + 2 * kMostRows) * 4);
  static_assert(Tile::kBytes >= kLooked * 16);
};

// The scores of blocks that score() kept too few of, over again: a warp a block.
template <int kWarps>
__device__ void compare_again(const uint32_t* codes, int32_t code_words,
                              const RetrievalShape& shape, const uint32_t* query,
                              const int32_t* table, int32_t kv_head, int32_t first, int32_t last,
                              int32_t threshold, uint64_t* above, uint64_t* equal) {
  const int32_t lane = threadIdx.x % 32;
  for (int32_t block = first + static_cast<int32_t>(threadIdx.x) / 32; block < last;
       block += kWarps) {
    const int64_t unit = static_cast<int64_t>(table[block]) * shape.kv_heads + kv_head;
    uint32_t higher[2], same[2];
#pragma unroll
    for (int32_t half = 0; half < 2; half++) {
      const int32_t score = score_words(codes + (unit * kBlockSize + 32 * half + lane) * code_words,
                                        query, shape.words(), shape.magnitudes());
      higher[half] = __ballot_sync(~0u, score > threshold);
      same[half] = __ballot_sync(~0u, score == threshold);
    }
    if (lane == 0) {
      above[block - first] = static_cast<uint64_t>(higher[1]) << 32 | higher[0];
      equal[block - first] = static_cast<uint64_t>(same[1]) << 32 | same[0];
    }
  }
}

template <typename T, int kDim>
__global__ void __launch_bounds__(RowTile<T, kDim>::kWarps * 32, 2)
    attend_kernel(const AttendOp<T> op) {
  using Tile = RowTile<T, kDim>;
  using Memory = Layout<T, kDim>;
  constexpr int kThreads = Memory::kThreads;
  constexpr int kLooked = Memory::kLooked;
  __shared__ int32_t scratch[Tile::kWarps];
  __shared__ Choice shared_choice;
  __shared__ Window shared_window;
  __shared__ int32_t shared_last;
  unsigned char* memory = ptx::shared_memory();
  T* q = reinterpret_cast<T*>(memory + Memory::kQ);
  auto* rows = reinterpret_cast<uint32_t*>(memory + Memory::kRows);
  auto* read = reinterpret_cast<uint64_t*>(memory + Memory::kRead);       // [kLooked] tokens
  auto* first_row = reinterpret_cast<int32_t*>(memory + Memory::kFirst);  // [kLooked]
  auto* what = reinterpret_cast<uint32_t*>(memory + Memory::kWhat);  // unit, tokens of the summary
  auto* above_again = reinterpret_cast<uint64_t*>(memory);  // [kLooked], in the tiles' place
  uint64_t* equal_again = above_again + kLooked;
  T* stages = reinterpret_cast<T*>(memory) + threadIdx.x / 32 * Tile::kStages * Tile::kStage;

  const RetrievalShape& shape = op.workspace.shape;
  const int32_t heads = shape.virtual_heads(), selections = shape.selections();
  const int32_t shared_heads = shape.shared_heads();
  const int32_t bins = shape.bins(), counters = shape.histogram();
  const float scale = 1.44269504088896340736f / sqrtf(static_cast<float>(kDim));
  const int32_t items = heads * op.queries.shares[op.queries.count].attend_start;
  bool waited = false;
  const auto wait = [&] {
    if (waited) return;
    ptx::wait_for_inputs();
    ptx::let_next_start();
    waited = true;
  };
  if (!op.scored || shape.encoder == kNoEncoder) wait();  // nobody waited for q yet

  for (int32_t item = blockIdx.x; item < items; item += static_cast<int32_t>(gridDim.x)) {
    const Piece piece = find_attend_piece(op.queries, heads, item);
    const Query query = op.queries.list[piece.query];
    const QueryShare share = op.queries.shares[piece.query];
    const int32_t start = op.queries.block_start[piece.query];
    const int32_t blocks = op.queries.block_start[piece.query + 1] - start;
    const int32_t closed = query.context / kBlockSize;
    const int32_t* table = op.tables + static_cast<int64_t>(query.seat) * op.table_stride;
    const int64_t linear =
        static_cast<int64_t>(heads) * start + static_cast<int64_t>(piece.head) * blocks;
    const int32_t kv_head = piece.head / selections;
    const int64_t first_head = static_cast<int64_t>(piece.head) * shared_heads * kDim;
    const bool dense = query.mode == kQueryDense, tail = query.mode == kQueryTail;
    const int32_t wanted = dense ? 0 : query.k - query.sink - query.recent;

    const int64_t cost = blocks + (dense ? query.context : query.k);
    const auto from = static_cast<int32_t>(cost * piece.part / piece.parts);
    const int32_t to = piece.part + 1 == piece.parts
                           ? INT_MAX
                           : static_cast<int32_t>(cost * (piece.part + 1) / piece.parts);

    const T* q_from = op.q + query.token * op.q_stride + first_head;
    for (int32_t i = threadIdx.x; i < kMostRows * Tile::kPieces; i += kThreads) {
      const int32_t row = i / Tile::kPieces, part = i % Tile::kPieces;
      uint4 value{};
      if (row < shared_heads)
        value = __ldcg(reinterpret_cast<const uint4*>(q_from + row * kDim + part * 8));
      *reinterpret_cast<uint4*>(q + Tile::place(row, part)) = value;
    }
    wait();

    Choice choice{bins, 0};
    Window window{0, blocks, 0, 0};
    bool again = false;
    uint32_t* at_least = op.workspace.at_least + static_cast<int64_t>(piece.unit) * counters;
    if (wanted > 0) {
      const int32_t guess = __ldcg(&op.workspace.spread[piece.unit].guess);
      choice = find_choice<kThreads>(at_least, bins, wanted, &shared_choice);
      again = choice.threshold < guess;
      window = find_window<kThreads>(op.workspace, query, op.queries.shares[piece.query], piece,
                                     blocks, choice, from, to, scratch, &shared_window);
    } else if (dense) {
      window.first = (from + kBlockSize) / (kBlockSize + 1);
      window.cost = window.first * (kBlockSize + 1);
      if (to < INT_MAX) window.last = (to + kBlockSize) / (kBlockSize + 1);
    }

    RowState<T, kDim> state;
    state.reset();
    // Rows `done` of the `all` that the last blocks looked at have are listed. Usually a piece's
    // rows all fit the list and are attended once; there is one place that does it, for the sake of
    // the instruction cache.
    int32_t cost_before = window.cost, equal_before = window.equal;
    int32_t base = window.first, all = 0, done = 0, listed = 0;
    do {
      while (listed < kListed && (done < all || base < window.last)) {
        if (done == all) {
          const int32_t end = min(base + kLooked, window.last);
          const int32_t mine = base + static_cast<int32_t>(threadIdx.x) * kEach;
          if (again) {
            compare_again<Tile::kWarps>(
                op.cache.codes[query.plane] + piece.head % selections * shape.words(),
                op.cache.code_words, shape,
                op.query_codes + static_cast<int64_t>(piece.unit) * shape.query_words(), table,
                kv_head, base, end, choice.threshold, above_again, equal_again);
            __syncthreads();
          }
          int32_t entry[kEach];
          uint64_t kept[kEach];
          uint4 ahead[kEach];
          const bool compares = wanted > 0 && !again;
#pragma unroll
          for (int32_t i = 0; i < kEach; i++) {
            const bool here = mine + i < end;
            entry[i] = here ? table[mine + i] : 0;
            kept[i] = here && compares ? __ldcg(op.workspace.kept + linear + mine + i) : 0;
            if (here && compares)
              ahead[i] = __ldcg(reinterpret_cast<const uint4*>(op.workspace.scores +
                                                               (linear + mine + i) * kBlockSize));
          }
          uint64_t above[kEach], equal[kEach];
          int32_t equals = 0;
#pragma unroll
          for (int32_t i = 0; i < kEach; i++) {
            above[i] = equal[i] = 0;
            const int32_t block = mine + i;
            if (block >= end) continue;
            if (compares) {
              const Compared compared = compare_kept(
                  kept[i], ahead[i], op.workspace.scores + (linear + block) * kBlockSize,
                  choice.threshold);
              above[i] = compared.above, equal[i] = compared.equal;
            } else if (again) {
              const uint64_t candidates = mask_of(block, query.sink, query.context - query.recent);
              above[i] = above_again[block - base] & candidates;
              equal[i] = equal_again[block - base] & candidates;
            }
            equals += __popcll(equal[i]);
          }

          int32_t sum;
          int32_t equal_at = equal_before + sum_before<kThreads>(equals, scratch, &sum);
          equal_before += sum;
          uint64_t selected[kEach];
          int32_t costs = 0;
#pragma unroll
          for (int32_t i = 0; i < kEach; i++) {
            const int32_t block = mine + i;
            int32_t skipped = min(max(choice.skip - equal_at, 0), __popcll(equal[i]));
            equal_at += __popcll(equal[i]);
            for (; skipped > 0; skipped--) equal[i] &= equal[i] - 1;
            selected[i] = above[i] | equal[i] |
                          mask_of(block, 0, dense ? query.context : query.sink) |
                          mask_of(block, query.context - query.recent, query.context);
            if (block < end) costs += __popcll(selected[i]) + 1;
          }

          int32_t cost_at = cost_before + sum_before<kThreads>(costs, scratch, &sum);
          cost_before += sum;
          int32_t count = 0, counts[kEach];
#pragma unroll
          for (int32_t i = 0; i < kEach; i++) {
            const int32_t block = mine + i;
            counts[i] = 0;
            if (block >= end) continue;
            const bool taken = cost_at >= from && cost_at < to;
            cost_at += __popcll(selected[i]) + 1;
            if (!taken) continue;
            if (op.trace && !dense) op.trace[linear + block] = selected[i];
            // The open block is read whole: it has no summary yet.
            const bool open = block >= closed;
            const uint64_t tokens = open ? mask_of(block, 0, query.context) : selected[i];
            const int32_t left = tail && !open ? kBlockSize - __popcll(tokens) : 0;
            counts[i] = __popcll(tokens) + (left > 0);
            const auto unit = static_cast<uint32_t>(entry[i] * shape.kv_heads + kv_head);
            read[block - base] = tokens;
            what[block - base] = static_cast<uint32_t>(left) << kUnitBits | unit;
            count += counts[i];
          }

          int32_t row_at = sum_before<kThreads>(count, scratch, &all);
#pragma unroll
          for (int32_t i = 0; i < kEach; i++) {
            first_row[static_cast<int32_t>(threadIdx.x) * kEach + i] = counts[i] ? row_at : INT_MAX;
            row_at += counts[i];
          }
          base = end;
          done = 0;
        }
        const int32_t taken = min(all - done, kListed - listed);
        for (int32_t i = 0; i < kEach; i++) {
          const int32_t at = static_cast<int32_t>(threadIdx.x) * kEach + i;
          int32_t row = first_row[at];
          if (row >= done + taken) continue;
          const uint32_t unit = what[at] & ((1u << kUnitBits) - 1), left = what[at] >> kUnitBits;
          const auto put = [&](uint32_t value) {
            if (row >= done && row < done + taken) rows[listed + row - done] = value;
            row++;
          };
          for (uint64_t tokens = read[at]; tokens; tokens &= tokens - 1)
            put(token_row(unit, __ffsll(static_cast<long long>(tokens)) - 1));
          if (left) put(summary_row(unit, static_cast<int32_t>(left)));
        }
        listed += taken;
        done += taken;
      }
      __syncthreads();
      add_rows<T, kDim>(state, op.cache, q, rows, listed, stages, shared_heads > 8, scale);
      __syncthreads();
      listed = 0;
    } while (done < all || base < window.last);

    T* out = op.out + query.token * op.out_stride + first_head;
    const int64_t stride = partial_floats(shared_heads, kDim);
    float* partial = piece.parts > 1 ? op.workspace.partials + piece.slot * stride : nullptr;
    merge_warps<T, kDim>(state, shared_heads, reinterpret_cast<float*>(memory), partial, out);
    bool last = true;
    if (piece.parts > 1) {
      __threadfence();
      __syncthreads();
      if (threadIdx.x == 0)
        shared_last = atomicAdd(op.workspace.arrived + piece.unit, 1u) ==
                      static_cast<uint32_t>(piece.parts) - 1;
      __syncthreads();
      last = shared_last != 0;
    }
    if (last) {
      if (piece.parts > 1) {
        __threadfence();
        merge_pieces<T, kDim>(partial - piece.part * stride, piece.parts, shared_heads,
                              reinterpret_cast<float*>(memory), out);
        if (threadIdx.x == 0) op.workspace.arrived[piece.unit] = 0;
      }
      if (wanted > 0) {
        for (int32_t i = threadIdx.x; i < counters; i += kThreads) at_least[i] = 0;
        if (threadIdx.x == 0 && op.carried) {
          const QuerySpread* spread = op.workspace.spread + piece.unit;
          const auto signed_score = static_cast<float>(2 * choice.threshold - __ldcg(&spread->sum));
          // Never 0, which says that there is no guess.
          const float carried = signed_score / fmaxf(__ldcg(&spread->norm), 1.0f);
          op.carried[static_cast<int64_t>(query.seat) * heads + piece.head] =
              carried == 0.0f ? 1e-6f : carried;
        }
      }
    }
    __syncthreads();
  }
  wait();
}

template <typename T, int kDim>
void launch(cudaStream_t stream, const AttendOp<T>& op) {
  using Memory = Layout<T, kDim>;
  const RetrievalShape& shape = op.workspace.shape;
  CUDA_CHECK(cudaFuncSetAttribute(attend_kernel<T, kDim>,
                                  cudaFuncAttributeMaxDynamicSharedMemorySize, Memory::kBytes));
  cudaLaunchConfig_t config = {};
  config.gridDim = dim3(static_cast<unsigned>(2 * shape.multiprocessors));
  config.blockDim = dim3(Memory::kThreads);
  config.dynamicSmemBytes = Memory::kBytes;
  config.stream = stream;
  cudaLaunchAttribute early = {};
  early.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  early.val.programmaticStreamSerializationAllowed = 1;
  config.attrs = &early;
  config.numAttrs = shape.capability >= 90 ? 1 : 0;
  CUDA_CHECK(cudaLaunchKernelEx(&config, attend_kernel<T, kDim>, op));
}

}  // namespace

template <typename T>
void attend(cudaStream_t stream, const AttendOp<T>& op) {
  if (op.queries.count == 0) return;
  switch (op.workspace.shape.head_dim) {
    case 64:
      return launch<T, 64>(stream, op);
    case 96:
      return launch<T, 96>(stream, op);
    case 128:
      return launch<T, 128>(stream, op);
    case 256:
      return launch<T, 256>(stream, op);
    default:
      throw Error(kModelUnsupported, "attention on a GPU takes head_dim 64, 96, 128 and 256");
  }
}

template void attend(cudaStream_t, const AttendOp<__nv_bfloat16>&);
template void attend(cudaStream_t, const AttendOp<__half>&);

}  // namespace spotlight::gpu
