// The two artifact slots: which encoder each code plane has, and which artifact's codes every block
// of the plane carries. A block whose codes are another artifact's (or none's) is found by its
// epoch and rehashed before a sequence scores with it.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <vector>

#include "attention/backend.h"
#include "device/device.h"

namespace spotlight {

class Slots {
 public:
  Slots(Device& device, int32_t blocks);

  const Encoder* encoder(int32_t plane) const {
    return encoders_[static_cast<size_t>(plane)].get();
  }
  // Null empties the slot. Codes already in the plane turn stale.
  void set(int32_t plane, std::unique_ptr<Encoder> encoder);
  void copied(int32_t from, int32_t to);
  // Tokens [position, position + tokens) of this table are about to be appended.
  void appending(const std::vector<int32_t>& table, int32_t position, int32_t tokens);
  // Codes of these blocks anew: filled[i] tokens of blocks[i].
  void rehash(int32_t plane, const std::vector<int32_t>& blocks,
              const std::vector<int32_t>& filled);
  // Rehashes those of the first `count` blocks of a table holding `tokens` tokens whose codes are
  // stale.
  void freshen(int32_t plane, const std::vector<int32_t>& table, size_t count, int32_t tokens);

 private:
  Device& device_;
  std::array<std::unique_ptr<Encoder>, kPlanes> encoders_;
  std::array<uint32_t, kPlanes> current_ =
      {};  // epoch of the slot's artifact; 0: the slot is empty
  std::array<std::vector<uint32_t>, kPlanes> epochs_;  // [blocks]
  uint32_t last_epoch_ = 0;
};

}  // namespace spotlight
