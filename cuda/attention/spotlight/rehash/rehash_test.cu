// Rehash against append: the codes that append made come back to the bit, and nothing else moves.
#include "attention/spotlight/encode/code_ops.h"
#include "attention/spotlight/rehash/rehash.h"
#include "device/cuda/runtime/gpu_test.h"

namespace spotlight::gpu::test {
namespace {

template <typename T>
void check_shape(const CodeShape& shape) {
  CodeWorld<T> world(shape, 29);
  for (const auto& tokens : ragged_steps()) {
    const TestStep<T> step = world.make_step(tokens);
    append(nullptr, append_op(world, step));
    world.expect(step);
  }
  std::vector<int32_t> filled(shape.blocks, 0);
  for (const int64_t at : world.stored) {
    int32_t& most = filled[at / kBlockSize / shape.kv_heads];
    most = std::max(most, static_cast<int32_t>(at % kBlockSize) + 1);
  }
  std::vector<int32_t> blocks(shape.blocks), counts;
  std::iota(blocks.begin(), blocks.end(), 0);
  std::shuffle(blocks.begin(), blocks.end(), world.random);
  for (const int32_t block : blocks) counts.push_back(filled[block]);
  const auto device_blocks = upload(blocks), device_filled = upload(counts);
  for (int32_t p = 0; p < kPlanes; p++) {
    const std::vector<uint32_t> appended = download(world.device_codes[p]);
    world.device_codes[p] = upload(std::vector<uint32_t>(appended.size(), kPoison));
    constexpr int32_t kSlice = 5;  // blocks a launch
    for (int32_t from = 0; from < shape.blocks; from += kSlice) {
      RehashOp<T> op;
      op.cache = world.cache();
      op.encoders = world.encoders.data();
      op.plane = p;
      op.blocks = device_blocks.data() + from;
      op.filled = device_filled.data() + from;
      op.count = std::min(kSlice, shape.blocks - from);
      rehash(nullptr, op);
    }
    same_bits(download(world.device_codes[p]), appended, "codes");
  }
  same_bits(download(world.device_k), world.k, "K");
}

TEST(rehash_gives_the_bits_that_append_gave) {
  check::need_gpu();
  for (const TestHeads& heads : all_heads()) {
    CodeShape shape;
    shape.head_dim = heads.dim;
    shape.group = heads.group;
    shape.bits = heads.bits;
    if (heads.group == 7) shape.kinds[1] = kNoEncoder;
    check_shape<__nv_bfloat16>(shape);
    check_shape<__half>(shape);
  }
  CodeShape shape;
  shape.kinds[0] = kMlp;
  shape.bits = shape.hidden = 64;
  check_shape<__nv_bfloat16>(shape);
  check_shape<__half>(shape);
}

}  // namespace
}  // namespace spotlight::gpu::test
