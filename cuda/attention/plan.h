// What of a step attends how in one layer: pure functions of the rows, computed by every thread for
// itself and alike.
#pragma once

#include <atomic>
#include <vector>

#include "attention/backend.h"

namespace spotlight {

// Consecutive tokens of one row that attend in one way.
struct Segment {
  const RowView* row = nullptr;
  int32_t first = 0;  // in the step's packed tokens
  int32_t tokens = 0;
  int32_t position = 0;  // absolute position of the first token
};

struct Plan {
  std::vector<Segment> dense, sparse;
  std::vector<Segment> selected;  // by an evaluation method, in engines that have them
};

// Prompt rows, layers whose mode is dense, rows whose plane has no codes of this layer, and
// contexts the policy attends densely to (crossover, or a budget that covers them) are dense. With
// `sparse_backend` false everything is.
Plan plan_rows(const AttentionContext& context, int32_t layer, const RowView* rows,
               int32_t row_count, bool sparse_backend);

// Hands out the work of a step's phases from the team's counter. A thread takes one ticket too many
// in each phase, which is how the phases' tickets stay apart without a reset; a barrier still
// stands between two phases. Thread 0 resets the counter before the first.
class Tickets {
 public:
  explicit Tickets(const Team& team) : team_(team) {}
  // Next piece of this phase, or -1. Every thread calls it until it says -1.
  int32_t next(int32_t pieces) {
    const int32_t taken = team_.ticket->fetch_add(1, std::memory_order_relaxed) - base_;
    if (taken < pieces) return taken;
    base_ += pieces + team_.nth;
    return -1;
  }

 private:
  const Team& team_;
  int32_t base_ = 0;
};

// Ranges into which each of `items` like pieces of work over `blocks` blocks divides, so that all
// threads have a like share. At most kMaxUnits ranges in all, unless there are more items.
inline constexpr int32_t kMaxUnits = 256;
int32_t split_ranges(int32_t items, int32_t threads, int32_t blocks);

// Memory carved from a team's scratch, 64-byte aligned; with a null base it measures.
class Carver {
 public:
  explicit Carver(std::byte* base) : base_(base) {}
  template <typename T>
  T* take(size_t count) {
    T* at = base_ ? reinterpret_cast<T*>(base_ + used_) : nullptr;
    used_ += (count * sizeof(T) + 63) / 64 * 64;
    return at;
  }
  size_t used() const { return used_; }

 private:
  std::byte* base_;
  size_t used_ = 0;
};

}  // namespace spotlight
