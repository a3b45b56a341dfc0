#include "device/cpu/huge_memory.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdint>
#include <string>

#include "error.h"

namespace spotlight {
namespace {

constexpr size_t kHugePage = size_t{2} << 20;
constexpr size_t kChunk = size_t{32} << 20;

}  // namespace

HugeMemory::~HugeMemory() {
  for (const Chunk& chunk : chunks_) munmap(chunk.memory, chunk.bytes);
}

std::byte* HugeMemory::take(size_t bytes) {
  bytes = (bytes + 63) / 64 * 64;
  if (bytes > left_) {
    const size_t size = (std::max(bytes, kChunk) + 2 * kHugePage - 1) / kHugePage * kHugePage;
    void* memory = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
      throw Error(kOutOfMemory, "no memory for " + std::to_string(size >> 20) + " MiB of weights");
    madvise(memory, size, MADV_HUGEPAGE);  // advice: what it cannot have it does without
    chunks_.push_back({memory, size});
    const auto address = reinterpret_cast<uintptr_t>(memory);
    const uintptr_t aligned = (address + kHugePage - 1) / kHugePage * kHugePage;
    next_ = reinterpret_cast<std::byte*>(aligned);
    left_ = size - (aligned - address);
  }
  std::byte* taken = next_;
  next_ += bytes;
  left_ -= bytes;
  taken_ += bytes;
  return taken;
}

}  // namespace spotlight
