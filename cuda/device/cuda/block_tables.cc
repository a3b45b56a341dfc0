#include "device/cuda/block_tables.h"

#include <algorithm>
#include <string>

#include "error.h"

namespace spotlight {

BlockTables::Update BlockTables::collect(const RowView* rows, int32_t count, gpu::TableRun* runs,
                                         int32_t* entries) {
  Update update;
  for (int32_t i = 0; i < count; i++) {
    const RowView& row = rows[i];
    if (row.seat < 0 || row.seat >= seats() || row.blocks > stride_) {
      throw Error(kInternal, "seat " + std::to_string(row.seat) + " with " +
                                 std::to_string(row.blocks) + " blocks: the device has " +
                                 std::to_string(seats()) + " seats of " + std::to_string(stride_));
    }
    int32_t& sent = sent_[static_cast<size_t>(row.seat)];
    if (!row.seated) sent = 0;
    const int32_t fresh = row.blocks - sent;
    if (fresh <= 0) continue;
    runs[update.runs++] = {row.seat, sent, fresh, update.entries};
    std::copy_n(row.block_table + sent, fresh, entries + update.entries);
    update.entries += fresh;
    update.longest = std::max(update.longest, fresh);
    sent = row.blocks;
  }
  return update;
}

}  // namespace spotlight
