// Owns the memory of the block pool: one anonymous mapping, carved into the arenas of KvArena,
// 64-byte aligned. Pages are touched lazily, so a pool sized for the largest load costs nothing
// until blocks are used.
#pragma once

#include <cstddef>
#include <cstdint>

#include "attention/backend.h"
#include "model/config.h"

namespace spotlight {

// Bytes one block takes over all layers: K, V, summaries and both code planes of code_bits a token
// and KV head.
size_t block_bytes(const ModelConfig& config, int32_t code_bits);

// Throws INVALID_ARGUMENT for a plane width no arena has.
void check_code_bits(int32_t code_bits);

class Arenas {
 public:
  // Throws OUT_OF_MEMORY when the system refuses the mapping, INVALID_ARGUMENT for blocks or
  // code_bits out of range.
  Arenas(const ModelConfig& config, int32_t blocks, int32_t code_bits);
  ~Arenas();
  Arenas(const Arenas&) = delete;
  Arenas& operator=(const Arenas&) = delete;

  KvArena& view() { return view_; }
  const KvArena& view() const { return view_; }
  // Copies a whole block in every layer and arena: K, V, summaries, both planes.
  void copy_block(int32_t from, int32_t to);

 private:
  KvArena view_;
  void* mapping_ = nullptr;
  size_t bytes_ = 0;
};

}  // namespace spotlight
