#include "engine/slots.h"

#include <algorithm>

namespace spotlight {

Slots::Slots(Device& device, int32_t blocks) : device_(device) {
  for (auto& epochs : epochs_) epochs.assign(static_cast<size_t>(blocks), 0);
}

void Slots::set(int32_t plane, std::unique_ptr<Encoder> encoder) {
  const auto p = static_cast<size_t>(plane);
  device_.set_encoder(plane, encoder.get());
  encoders_[p] = std::move(encoder);
  current_[p] = encoders_[p] != nullptr ? ++last_epoch_ : 0;
}

void Slots::copied(int32_t from, int32_t to) {
  for (auto& epochs : epochs_) epochs[static_cast<size_t>(to)] = epochs[static_cast<size_t>(from)];
}

void Slots::appending(const std::vector<int32_t>& table, int32_t position, int32_t tokens) {
  // A block belongs to the artifact that hashed its first token; one that is only filled up keeps
  // its epoch.
  for (int32_t first = (position + kBlockSize - 1) / kBlockSize;
       first * kBlockSize < position + tokens; first++) {
    const auto block = static_cast<size_t>(table[static_cast<size_t>(first)]);
    for (size_t plane = 0; plane < kPlanes; plane++) epochs_[plane][block] = current_[plane];
  }
}

void Slots::rehash(int32_t plane, const std::vector<int32_t>& blocks,
                   const std::vector<int32_t>& filled) {
  const auto p = static_cast<size_t>(plane);
  if (encoders_[p] == nullptr || blocks.empty()) return;
  device_.rehash(plane, blocks.data(), filled.data(), static_cast<int32_t>(blocks.size()));
  for (const int32_t block : blocks) epochs_[p][static_cast<size_t>(block)] = current_[p];
}

void Slots::freshen(int32_t plane, const std::vector<int32_t>& table, size_t count,
                    int32_t tokens) {
  const auto p = static_cast<size_t>(plane);
  if (encoders_[p] == nullptr) return;
  std::vector<int32_t> blocks, filled;
  for (size_t i = 0; i < count; i++) {
    if (epochs_[p][static_cast<size_t>(table[i])] == current_[p]) continue;
    blocks.push_back(table[i]);
    filled.push_back(std::min(kBlockSize, tokens - static_cast<int32_t>(i) * kBlockSize));
  }
  rehash(plane, blocks, filled);
}

}  // namespace spotlight
