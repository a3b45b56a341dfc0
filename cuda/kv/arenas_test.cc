#include "kv/arenas.h"

#include <algorithm>

#include "test/check.h"

namespace spotlight {
namespace {

ModelConfig shape() {
  ModelConfig config;
  config.layers = 3;
  config.kv_heads = 2;
  config.head_dim = 16;
  return config;
}

TEST(block_bytes_counts_every_arena_once) {
  // K and V 2*2*64*16 f16, two summaries 2*2*16 f16, two planes 2*64 tokens of 16 bytes; times
  // three layers.
  CHECK_EQ(block_bytes(shape(), 128),
           size_t{3 * (2 * 2 * 64 * 16 * 2 + 2 * 2 * 16 * 2 + 2 * 2 * 64 * 16)});
}

TEST(arenas_do_not_overlap_and_are_aligned) {
  Arenas arenas(shape(), 5, 64);
  const KvArena& view = arenas.view();
  CHECK_EQ(view.code_words, 2);
  struct Range {
    const void* from;
    const void* to;
  };
  const size_t last = view.head_block(2, 4, 1) + 1;
  std::vector<Range> ranges = {{view.k, view.k + last * 64 * 16},
                               {view.v, view.v + last * 64 * 16},
                               {view.mean_k, view.mean_k + last * 16},
                               {view.mean_v, view.mean_v + last * 16},
                               {view.codes[0], view.codes[0] + last * 64 * 2},
                               {view.codes[1], view.codes[1] + last * 64 * 2}};
  std::sort(ranges.begin(), ranges.end(),
            [](const Range& a, const Range& b) { return a.from < b.from; });
  for (size_t i = 0; i < ranges.size(); i++) {
    CHECK_EQ(reinterpret_cast<uintptr_t>(ranges[i].from) % 64, uintptr_t{0});
    if (i > 0) CHECK(ranges[i - 1].to <= ranges[i].from);
  }
  CHECK_EQ(view.k[0], 0);  // fresh memory is zero: a block never shows another process's data
}

TEST(copy_block_copies_every_arena_in_every_layer_and_nothing_else) {
  Arenas arenas(shape(), 4, 32);
  KvArena& view = arenas.view();
  const auto mark = [&](int32_t block, uint16_t value) {
    for (int32_t layer = 0; layer < 3; layer++) {
      for (int32_t head = 0; head < 2; head++) {
        const auto at = static_cast<uint16_t>(value + 10 * layer + head);
        std::fill_n(view.k_block(layer, block, head), 64 * 16, at);
        std::fill_n(view.v_block(layer, block, head), 64 * 16, at + 100);
        std::fill_n(view.mean_k_at(layer, block, head), 16, at + 200);
        std::fill_n(view.mean_v_at(layer, block, head), 16, at + 300);
        for (int plane = 0; plane < kPlanes; plane++)
          std::fill_n(view.codes_block(plane, layer, block, head), 64, at + 400u + plane);
      }
    }
  };
  mark(1, 1000);
  mark(2, 2000);
  mark(3, 3000);
  arenas.copy_block(1, 2);
  for (int32_t layer = 0; layer < 3; layer++) {
    for (int32_t head = 0; head < 2; head++) {
      const int at = 1000 + 10 * layer + head;
      for (int i : {0, 64 * 16 - 1}) {
        CHECK_EQ(view.k_block(layer, 2, head)[i], at);
        CHECK_EQ(view.v_block(layer, 2, head)[i], at + 100);
        CHECK_EQ(view.k_block(layer, 3, head)[i], at + 2000);
      }
      for (int i : {0, 15}) {
        CHECK_EQ(view.mean_k_at(layer, 2, head)[i], at + 200);
        CHECK_EQ(view.mean_v_at(layer, 2, head)[i], at + 300);
      }
      for (int i : {0, 63}) {
        CHECK_EQ(view.codes_block(0, layer, 2, head)[i], at + 400u);
        CHECK_EQ(view.codes_block(1, layer, 2, head)[i], at + 401u);
      }
      CHECK_EQ(view.k_block(layer, 0, head)[0], 0);
    }
  }
}

TEST(bad_sizes_are_refused_by_name) {
  CHECK_THROWS(Arenas(shape(), 0, 128), kInvalidArgument, "blocks");
  CHECK_THROWS(Arenas(shape(), 1, 100), kInvalidArgument, "codeBits");
}

}  // namespace
}  // namespace spotlight
