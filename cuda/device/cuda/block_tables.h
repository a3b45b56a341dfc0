// Which entries of the device's block tables are out of date: the host's memory of what it has
// sent. A sequence's table only grows, so a step sends what its rows appended; a seat's first row
// sends all. Knows no CUDA.
#pragma once

#include <cstdint>
#include <vector>

#include "device/device.h"

namespace spotlight {

namespace gpu {
// Entries [from, from + count) of a seat's table; they lie at `offset` of the step's entries.
struct TableRun {
  int32_t seat, from, count, offset;
};
}  // namespace gpu

class BlockTables {
 public:
  // stride: entries a seat's table has room for.
  BlockTables(int32_t seats, int32_t stride) : stride_(stride), sent_(static_cast<size_t>(seats)) {}

  int32_t seats() const { return static_cast<int32_t>(sent_.size()); }
  int32_t stride() const { return stride_; }

  struct Update {
    int32_t runs = 0, entries = 0, longest = 0;
  };
  // Writes what the rows' seats lack: at most one run a row, entries at most rows * stride.
  // Throws INTERNAL for a seat or a table beyond the device's.
  Update collect(const RowView* rows, int32_t count, gpu::TableRun* runs, int32_t* entries);

 private:
  int32_t stride_;
  std::vector<int32_t> sent_;  // entries of each seat the device has
};

}  // namespace spotlight
