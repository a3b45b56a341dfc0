#include "kv/arenas.h"

#include <sys/mman.h>

#include <cerrno>
#include <cstring>
#include <string>

#include "error.h"

namespace spotlight {
namespace {

constexpr size_t kHugePage = size_t{2} << 20;
constexpr int32_t kMaxCodeBits = 4096;

size_t aligned(size_t bytes) { return (bytes + kHugePage - 1) / kHugePage * kHugePage; }

struct Sizes {
  size_t rows, summary, codes;  // bytes of one block in one layer, all KV heads
};

Sizes sizes(const ModelConfig& config, int32_t code_bits) {
  const size_t width = static_cast<size_t>(config.kv_heads) * config.head_dim;
  return {width * kBlockSize * sizeof(half_bits), width * sizeof(half_bits),
          static_cast<size_t>(config.kv_heads) * kBlockSize * (code_bits / 8)};
}

}  // namespace

size_t block_bytes(const ModelConfig& config, int32_t code_bits) {
  const Sizes one = sizes(config, code_bits);
  return (2 * one.rows + 2 * one.summary + kPlanes * one.codes) * config.layers;
}

void check_code_bits(int32_t code_bits) {
  if (code_bits >= 32 && code_bits <= kMaxCodeBits && code_bits % 32 == 0) return;
  throw Error(kInvalidArgument, "codeBits: " + std::to_string(code_bits) +
                                    ", must be a multiple of 32 in [32, " +
                                    std::to_string(kMaxCodeBits) + "]");
}

Arenas::Arenas(const ModelConfig& config, int32_t blocks, int32_t code_bits) {
  if (blocks <= 0)
    throw Error(kInvalidArgument, "blocks: " + std::to_string(blocks) + ", must be at least 1");
  check_code_bits(code_bits);
  const Sizes one = sizes(config, code_bits);
  const size_t count = static_cast<size_t>(blocks) * config.layers;
  const size_t rows = aligned(one.rows * count), summary = aligned(one.summary * count),
               codes = aligned(one.codes * count);
  bytes_ = 2 * rows + 2 * summary + kPlanes * codes;
  mapping_ = mmap(nullptr, bytes_ + kHugePage, PROT_READ | PROT_WRITE,
                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (mapping_ == MAP_FAILED) {
    mapping_ = nullptr;
    throw Error(kOutOfMemory, "the block pool of " + std::to_string(blocks) + " blocks needs " +
                                  std::to_string(bytes_ >> 20) + " MiB: " + std::strerror(errno) +
                                  "; give fewer blocks or kvBytes");
  }
  madvise(mapping_, bytes_ + kHugePage,
          MADV_HUGEPAGE);  // advice: what it cannot have it does without
  auto address = reinterpret_cast<uintptr_t>(mapping_);
  auto* next = reinterpret_cast<std::byte*>((address + kHugePage - 1) / kHugePage * kHugePage);
  const auto take = [&next](size_t bytes) {
    std::byte* start = next;
    next += bytes;
    return start;
  };
  view_.layers = config.layers;
  view_.blocks = blocks;
  view_.kv_heads = config.kv_heads;
  view_.head_dim = config.head_dim;
  view_.code_words = code_bits / 32;
  view_.k = reinterpret_cast<half_bits*>(take(rows));
  view_.v = reinterpret_cast<half_bits*>(take(rows));
  view_.mean_k = reinterpret_cast<half_bits*>(take(summary));
  view_.mean_v = reinterpret_cast<half_bits*>(take(summary));
  for (uint32_t*& plane : view_.codes) plane = reinterpret_cast<uint32_t*>(take(codes));
}

Arenas::~Arenas() {
  if (mapping_ != nullptr) munmap(mapping_, bytes_ + kHugePage);
}

void Arenas::copy_block(int32_t from, int32_t to) {
  const auto copy = [&](auto* base, int32_t layer, size_t per_head) {
    const size_t count = per_head * view_.kv_heads;
    std::memcpy(base + view_.head_block(layer, to, 0) * per_head,
                base + view_.head_block(layer, from, 0) * per_head, count * sizeof(*base));
  };
  const size_t rows = static_cast<size_t>(kBlockSize) * view_.head_dim;
  for (int32_t layer = 0; layer < view_.layers; layer++) {
    copy(view_.k, layer, rows);
    copy(view_.v, layer, rows);
    copy(view_.mean_k, layer, view_.head_dim);
    copy(view_.mean_v, layer, view_.head_dim);
    for (uint32_t* plane : view_.codes)
      copy(plane, layer, static_cast<size_t>(kBlockSize) * view_.code_words);
  }
}

}  // namespace spotlight
