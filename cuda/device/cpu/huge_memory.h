// Memory for weights in huge pages where the system has them: a decode step reads every weight
// once, and with 4 KB pages a twentieth of its time goes into address translation. Handed out front
// to back, freed all at once.
#pragma once

#include <cstddef>
#include <vector>

namespace spotlight {

class HugeMemory {
 public:
  HugeMemory() = default;
  ~HugeMemory();
  HugeMemory(const HugeMemory&) = delete;
  HugeMemory& operator=(const HugeMemory&) = delete;

  // 64-byte aligned, alive as long as this. Throws OUT_OF_MEMORY.
  std::byte* take(size_t bytes);
  size_t taken() const { return taken_; }

 private:
  struct Chunk {
    void* memory;
    size_t bytes;
  };
  std::vector<Chunk> chunks_;
  std::byte* next_ = nullptr;
  size_t left_ = 0, taken_ = 0;
};

}  // namespace spotlight
