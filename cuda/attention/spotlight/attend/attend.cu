// A piece is a share of one query and virtual head: choose which of its blocks' tokens are read,
// list them as rows, gather and attend. What pieces leave each other is a partial state; the last
// one through merges, writes the output and leaves the workspace as it was found.
#include <cuda_runtime.h>

#include <climits>

#include "attention/spotlight/attend/attend_gpu.h"
#include "attention/spotlight/attend/choose.cuh"
#include "attention/spotlight/attend/combine.cuh"
#include "attention/spotlight/encode/launch.cuh"
#include "attention/spotlight/encode/ptx.cuh"
#include "device/cuda/runtime/cuda_error.h"
#include "error.h"

namespace spotlight::gpu {
namespace {

// Two CTAs share a multiprocessor, or one and one of the score kernel: this fills what the tiles
// leave of its memory.
constexpr int32_t kListed = 1536;  // rows gathered at once: a multiple of 16 * kWarps
constexpr int32_t kFew = 8;        // rows of a block that its thread lists by itself

template <typename T, int kDim>
struct Layout {
  using Tile = RowTile<T, kDim>;
  static constexpr int kThreads = Tile::kWarps * 32;
  static constexpr int kLooked = kThreads;  // blocks a CTA looks at at once
  static constexpr int kQ = Tile::kBytes;
  static constexpr int kRows = kQ + kMostRows * kDim * 2;
  static constexpr int kBytes = kRows + kListed * 4;
  static_assert(Tile::kBytes >= (Tile::kWarps * kMostRows * (kDim + 2) + 2 * kMostRows) * 4);
  static_assert(Tile::kBytes >= 2 * 256 * kMostRows * 4);  // two numbers a merged piece and head
  // Scores of a warp's blocks, twice over, lie in the place of its tiles.
  static_assert(Tile::kStages * Tile::kStage * 2 >= 2 * 32 * 32 * 4);
};

// Copies the scores of `count` blocks, at most 32, into a warp's shared memory.
__device__ inline void copy_scores(uint32_t* to, const uint32_t* from, int32_t count) {
  const int32_t lane = threadIdx.x % 32;
#pragma unroll 4
  for (int32_t i = 0; i < 8; i++) {
    const int32_t at = i * 32 + lane;  // of 16 bytes, eight a block
    const bool valid = at / 8 < count;
    ptx::copy_async(to + at * 4, from + (valid ? at * 4 : 0), valid);
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
  const int32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  T* stages = reinterpret_cast<T*>(memory) + warp * Tile::kStages * Tile::kStage;
  auto* scores = reinterpret_cast<uint32_t*>(stages);  // [2, 32, 32] in the tiles' place

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
    uint32_t* at_least = op.workspace.at_least + static_cast<int64_t>(piece.unit) * counters;
    if (wanted > 0) {
      choice = find_choice<kThreads>(at_least, bins, wanted, &shared_choice);
      window = find_window<kThreads>(op.workspace, query, share, piece, blocks, choice, from, to,
                                     scratch, &shared_window);
    } else if (dense) {
      window.first = (from + kBlockSize) / (kBlockSize + 1);
      window.cost = window.first * (kBlockSize + 1);
      if (to < INT_MAX) window.last = (to + kBlockSize) / (kBlockSize + 1);
    }

    RowState<T, kDim> state;
    state.reset();
    // Of the `all` rows of the blocks looked at last, `done` are listed. Usually a piece's rows all
    // fit the list and are attended once; there is one place that does it: code is small, since
    // every launch has to fetch it anew.
    int32_t cost_before = window.cost, equal_before = window.equal;
    int32_t base = window.first, all = 0, done = 0, listed = 0;
    uint64_t tokens = 0;  // of this thread's block that are read
    uint32_t what = 0;    // its unit, and how many tokens its summary stands for
    int32_t count = 0, first_row = 0;
    const uint32_t* from_scores = op.workspace.scores + (linear + 32 * warp) * 32;
    const auto fetch = [&](int32_t at, int32_t turn) {
      if (wanted > 0 && at + 32 * warp < window.last)
        copy_scores(scores + turn % 2 * 1024, from_scores + static_cast<int64_t>(at) * 32,
                    window.last - at - 32 * warp);
      ptx::commit_copies();
    };
    int32_t turn = 0;
    do {
      // Scores of the blocks looked at next are on their way while these are looked at.
      fetch(base, turn);
      while (listed < kListed && (done < all || base < window.last)) {
        if (done == all) {
          const int32_t block = base + static_cast<int32_t>(threadIdx.x);
          const bool here = block < window.last;
          const int32_t entry = here ? table[block] : 0;
          fetch(base + kLooked, turn + 1);
          uint64_t selected = 0;
          if (here)
            selected = mask_of(block, 0, dense ? query.context : query.sink) |
                       mask_of(block, query.context - query.recent, query.context);
          if (wanted > 0) {
            ptx::wait_copies<1>();
            __syncwarp();
            const uint32_t* own = scores + turn % 2 * 1024;
            const uint64_t candidates =
                here ? mask_of(block, query.sink, query.context - query.recent) : 0;
            uint64_t chosen = at_least_in(own, choice.threshold) & candidates;
            if (choice.skip > equal_before) {  // the oldest of those equal to it are left out
              uint64_t equal = chosen & ~at_least_in(own, choice.threshold + 1);
              int32_t sum;
              const int32_t before =
                  equal_before + sum_before<kThreads>(__popcll(equal), scratch, &sum);
              equal_before += sum;
              for (int32_t left = choice.skip - before; left > 0 && equal; left--) {
                chosen &= ~(equal & (0 - equal));
                equal &= equal - 1;
              }
            }
            __syncwarp();  // read before what comes after the next is copied there
            selected |= chosen;
          }
          turn++;

          int32_t sum;
          const int32_t cost = here ? __popcll(selected) + 1 : 0;
          const int32_t cost_at = cost_before + sum_before<kThreads>(cost, scratch, &sum);
          cost_before += sum;
          tokens = what = 0;
          count = 0;
          if (here && cost_at >= from && cost_at < to) {
            if (op.trace && !dense) op.trace[linear + block] = selected;
            // The open block is read whole: it has no summary yet.
            const bool open = block >= closed;
            tokens = open ? mask_of(block, 0, query.context) : selected;
            const int32_t left = tail && !open ? kBlockSize - __popcll(tokens) : 0;
            count = __popcll(tokens) + (left > 0);
            what = static_cast<uint32_t>(left) << kUnitBits |
                   static_cast<uint32_t>(entry * shape.kv_heads + kv_head);
          }
          first_row = sum_before<kThreads>(count, scratch, &all);
          base = min(base + kLooked, window.last);
          done = 0;
        }
        const int32_t end = min(all, done + kListed - listed);
        const auto put = [&](int32_t row, uint32_t value) {
          if (row >= done && row < end) rows[listed + row - done] = value;
        };
        // A block of few rows is listed by its thread, one of many by the warp.
        if (count <= kFew) {
          const uint32_t unit = what & ((1u << kUnitBits) - 1), left = what >> kUnitBits;
          int32_t row = first_row;
          for (uint64_t rest = tokens; rest; rest &= rest - 1)
            put(row++, token_row(unit, __ffsll(static_cast<long long>(rest)) - 1));
          if (left) put(row, summary_row(unit, static_cast<int32_t>(left)));
        }
        __syncwarp();
        for (uint32_t many = __ballot_sync(~0u, count > kFew); many; many &= many - 1) {
          const int32_t i = __ffs(static_cast<int>(many)) - 1;
          int32_t row = __shfl_sync(~0u, first_row, i);
          const uint64_t mask = __shfl_sync(~0u, tokens, i);
          const uint32_t of_block = __shfl_sync(~0u, what, i);
          const uint32_t unit = of_block & ((1u << kUnitBits) - 1), left = of_block >> kUnitBits;
#pragma unroll
          for (int32_t half = 0; half < 2; half++) {
            const auto bits = static_cast<uint32_t>(mask >> 32 * half);
            if (bits >> lane & 1)
              put(row + __popc(bits & ((1u << lane) - 1)), token_row(unit, 32 * half + lane));
            row += __popc(bits);
          }
          if (left && lane == 0) put(row, summary_row(unit, static_cast<int32_t>(left)));
        }
        listed += end - done;
        done = end;
      }
      ptx::wait_copies<0>();  // of scores: tiles take their place
      __syncthreads();
      add_rows<T, kDim>(state, op.cache, q, rows, listed, stages, shared_heads > 8, scale);
      __syncthreads();
      listed = 0;
    } while (done < all || base < window.last);

    T* out = op.out + query.token * op.out_stride + first_head;
    const int64_t stride = partial_floats(shared_heads, kDim);
    const int64_t slot = int64_t{heads} * share.attend_slot + piece.within;
    float* partial = piece.parts > 1 ? op.workspace.partials + slot * stride : nullptr;
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
      if (wanted > 0)
        for (int32_t i = threadIdx.x; i < counters; i += kThreads) at_least[i] = 0;
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
  prefer_shared_memory(attend_kernel<T, kDim>);
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
