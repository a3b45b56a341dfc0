#include "attention/gpu/retrieval.h"

#include <algorithm>
#include <climits>
#include <string>

#include "error.h"

namespace spotlight::gpu {
namespace {

constexpr int32_t kMostRows = 16;  // query heads of one selection: a tensor core tile
constexpr int32_t kMostBits = 512;
constexpr int64_t kMostMerged = 256;  // pieces of one query: what merges them has so much memory
// A piece of attend looks at whole stretches: they should be short, but whoever counts has to stop
// after each.
constexpr int32_t kLeastStretch = 64, kMostStretches = 4;

// What a piece costs besides its work, the least work worth a piece of its own, and how many pieces
// a multiprocessor runs at once: two share its bandwidth but hide each other's waits, at the price
// of more to merge. Alone a piece is slower than its share by `alone` percent.
struct PieceCost {
  int32_t start, least, beside, alone, merge;
};
constexpr PieceCost kScorePiece{16, 8, 2, 30, 48};     // in blocks of codes
constexpr PieceCost kAttendPiece{192, 64, 2, 30, 48};  // in rows of K and V

int32_t blocks_of(const Query& query) {
  return query.mode == kQueryNone ? 0 : (query.context + kBlockSize - 1) / kBlockSize;
}

int64_t score_cost(const Query& query) {
  const bool counts = query.mode >= kQuerySparse && query.k > query.sink + query.recent;
  return counts ? blocks_of(query) : 0;
}

int64_t attend_cost(const Query& query) {
  if (query.mode == kQueryNone) return 0;
  return blocks_of(query) + (query.mode == kQueryDense ? query.context : query.k);
}

template <typename Cost>
int64_t count_pieces(const Query* list, int32_t count, const Cost& cost, int64_t most) {
  int64_t pieces = 0;
  for (int32_t i = 0; i < count; i++) pieces += (cost(list[i]) + most - 1) / most;
  return pieces;
}

// The most work of one piece. With few queries all pieces should run at once, one a multiprocessor;
// with many, whole rounds of them; else what spreads the work evenly.
template <typename Cost>
int64_t most_work(const Query* list, int32_t count, const Cost& cost, const PieceCost& piece,
                  int32_t heads, int32_t multiprocessors) {
  int64_t total = 0, largest = piece.least;
  for (int32_t i = 0; i < count; i++) {
    total += heads * cost(list[i]);
    largest = std::max(largest, cost(list[i]));
  }
  int64_t best = largest, best_time = LLONG_MAX;
  const auto weigh = [&](int64_t most) {
    const int64_t pieces = heads * count_pieces(list, count, cost, most);
    const int64_t at_once = int64_t{piece.beside} * multiprocessors;
    const int64_t rounds = (pieces + at_once - 1) / at_once;
    const int64_t time = pieces <= multiprocessors
                             ? most + most * piece.alone / 100 + piece.start
                             : rounds * (most * piece.beside + piece.start) + piece.merge;
    if (time < best_time) best_time = time, best = most;
  };
  for (const int32_t rounds : {1, 2, 3, 4}) {
    const int64_t room = int64_t{rounds} * multiprocessors;
    if (heads * count_pieces(list, count, cost, largest) > room) continue;
    int64_t low = std::clamp<int64_t>((total + room - 1) / room, piece.least, largest);
    int64_t high = largest;
    while (low < high) {
      const int64_t middle = (low + high) / 2;
      if (heads * count_pieces(list, count, cost, middle) <= room)
        high = middle;
      else
        low = middle + 1;
    }
    weigh(high);
  }
  weigh(std::clamp<int64_t>((total + multiprocessors - 1) / multiprocessors, piece.least, largest));
  return best;
}

[[noreturn]] void unsupported(const std::string& what) { throw Error(kModelUnsupported, what); }

void check_shape(const RetrievalShape& shape) {
  const auto text = [](int32_t n) { return std::to_string(n); };
  const int32_t dim = shape.head_dim;
  if (dim != 64 && dim != 96 && dim != 128 && dim != 256)
    unsupported("head_dim is " + text(dim) + ", attention on a GPU takes 64, 96, 128 and 256");
  if (shape.kv_heads < 1 || shape.query_heads % shape.kv_heads != 0 ||
      shape.query_heads / shape.kv_heads > kMostRows)
    unsupported(text(shape.query_heads) + " query heads over " + text(shape.kv_heads) +
                " KV heads: attention takes 1 to " + text(kMostRows) + " a KV head");
  // The tiles of rows on their way take 112 KB of shared memory at head_dim 128, 148 KB at 256.
  const bool little_shared =
      shape.capability == 86 || shape.capability == 89 || shape.capability >= 120;
  if (dim >= 128 && little_shared)
    unsupported("head_dim " + text(dim) + " takes more shared memory than GPUs of capability " +
                text(shape.capability / 10) + "." + text(shape.capability % 10) +
                " have: use the dense backend");
  if (shape.encoder != kNoEncoder &&
      (shape.bits < 32 || shape.bits > kMostBits || shape.bits % 32 != 0))
    unsupported("codes of " + text(shape.bits) + " bits: a GPU takes multiples of 32 up to " +
                text(kMostBits));
}

// Carves arrays from one piece of memory, each on 256 bytes.
class Carve {
 public:
  explicit Carve(void* memory) : memory_(static_cast<char*>(memory)) {}
  template <typename T>
  void take(T*& array, int64_t count) {
    if (memory_) array = reinterpret_cast<T*>(memory_ + used_);
    used_ += (static_cast<size_t>(count) * sizeof(T) + 255) / 256 * 256;
  }
  size_t used() const { return used_; }

 private:
  char* memory_;
  size_t used_ = 0;
};

size_t carve(Workspace& workspace, void* memory) {
  const RetrievalShape& shape = workspace.shape;
  check_shape(shape);
  Carve carve(memory);
  const int64_t heads = shape.virtual_heads(), units = heads * shape.max_queries;
  if (shape.encoder != kNoEncoder) {
    carve.take(workspace.scores, heads * shape.max_blocks * kBlockSize / 2);
    carve.take(workspace.at_least, units * shape.histogram());
    carve.take(workspace.at_least_of, int64_t{shape.stretch_slots()} * shape.histogram());
  }
  carve.take(workspace.arrived, units);
  carve.take(workspace.partials,
             int64_t{shape.slots()} * (2 * kMostRows + shape.shared_heads() * shape.head_dim));
  return carve.used();
}

// Cuts the score pieces of a query into stretches, of which there is room for so many. The largest
// piece decides, so that all have as many.
void cut_piece(QueryShare& share, int32_t blocks, int32_t room) {
  if (share.score_pieces == 0) return;
  const auto up = [](int32_t a, int32_t b) { return (a + b - 1) / b; };
  const int32_t largest = up(blocks, share.score_pieces);
  const int32_t most = std::clamp(room / share.score_pieces, 1, kMostStretches);
  share.stretch = up(up(largest, most), kLeastStretch) * kLeastStretch;
  share.stretches = up(largest, share.stretch);
}

}  // namespace

size_t workspace_bytes(const RetrievalShape& shape) {
  Workspace workspace;
  workspace.shape = shape;
  return carve(workspace, nullptr);
}

Workspace make_workspace(const RetrievalShape& shape, void* memory) {
  Workspace workspace;
  workspace.shape = shape;
  carve(workspace, memory);
  return workspace;
}

void plan_queries(const RetrievalShape& shape, const Query* list, int32_t count,
                  int32_t* block_start, QueryShare* shares) {
  if (count > shape.max_queries)
    throw Error(kInvalidArgument, std::to_string(count) + " queries in one launch, there is room " +
                                      "for " + std::to_string(shape.max_queries));
  const int32_t heads = shape.virtual_heads();
  const int64_t score_most =
      most_work(list, count, score_cost, kScorePiece, heads, shape.multiprocessors);
  int64_t attend_most =
      most_work(list, count, attend_cost, kAttendPiece, heads, shape.multiprocessors);
  for (int32_t i = 0; i < count; i++)
    attend_most = std::max(attend_most, (attend_cost(list[i]) + kMostMerged - 1) / kMostMerged);
  // Four rounds of pieces, and one more for what does not divide, have a slot in any case.
  const int32_t room = shape.stretch_slots() - 5 * shape.multiprocessors;
  int64_t blocks = 0;
  QueryShare sum;
  for (int32_t i = 0; i < count; i++) {
    block_start[i] = static_cast<int32_t>(blocks);
    blocks += blocks_of(list[i]);
    QueryShare& share = shares[i] = sum;
    share.score_pieces = static_cast<int32_t>((score_cost(list[i]) + score_most - 1) / score_most);
    share.attend_pieces =
        static_cast<int32_t>((attend_cost(list[i]) + attend_most - 1) / attend_most);
    cut_piece(share, blocks_of(list[i]), room / heads - sum.score_slot);
    const int32_t stretches = share.score_pieces * share.stretches;
    sum.score_start += share.score_pieces;
    sum.attend_start += share.attend_pieces;
    if (stretches > 1) sum.score_slot += stretches;
    if (share.attend_pieces > 1) sum.attend_slot += share.attend_pieces;
  }
  if (blocks > shape.max_blocks)
    throw Error(kInvalidArgument, std::to_string(blocks) + " blocks in one launch, there is room " +
                                      "for " + std::to_string(shape.max_blocks));
  block_start[count] = static_cast<int32_t>(blocks);
  shares[count] = sum;
}

}  // namespace spotlight::gpu
