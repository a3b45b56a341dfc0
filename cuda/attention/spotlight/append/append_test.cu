// Append on the GPU against the host: rows cut anywhere, blocks that close inside a chunk, padding,
// shuffled tables, every head size and group size, both planes and encoders.
#include "attention/spotlight/append/append.h"
#include "attention/spotlight/append/append_naive.cuh"
#include "attention/spotlight/encode/code_ops.h"
#include "device/cuda/runtime/gpu_test.h"

namespace spotlight::gpu::test {
namespace {

template <typename T>
void check_shape(const CodeShape& shape, NearZero& count) {
  CodeWorld<T> world(shape, 7);
  for (const auto& tokens : ragged_steps()) {
    const TestStep<T> step = world.make_step(tokens);
    append(nullptr, append_op(world, step));
    world.expect(step);
  }
  world.check_cache(count);
}

template <typename T>
void check_shapes() {
  NearZero linear, mlp;
  for (const TestHeads& heads : all_heads()) {
    CodeShape shape;
    shape.head_dim = heads.dim;
    shape.group = heads.group;
    shape.bits = heads.bits;
    check_shape<T>(shape, linear);
  }
  linear.report("linear-asym");
  for (const int32_t hidden : {48, 64, 128}) {
    CodeShape shape;
    shape.kinds[0] = kMlp;
    shape.bits = 64;  // hidden 64: both residuals
    shape.hidden = hidden;
    shape.kinds[1] = hidden == 48 ? kNoEncoder : kMlp;
    check_shape<T>(shape, mlp);
  }
  mlp.report("mlp");
}

TEST(append_stores_what_the_cpu_would_in_bf16) {
  check::need_gpu();
  check_shapes<__nv_bfloat16>();
}

TEST(append_stores_what_the_cpu_would_in_fp16) {
  check::need_gpu();
  check_shapes<__half>();
}

TEST(how_a_prompt_is_cut_changes_no_bit) {
  check::need_gpu();
  using T = __nv_bfloat16;
  CodeShape shape;
  shape.head_dim = 128;
  shape.kinds[1] = kMlp;
  std::vector<uint32_t> codes[kPlanes];
  std::vector<T> means;
  for (const int32_t chunk : {180, 64, 50, 1}) {
    CodeWorld<T> world(shape, 3);
    std::vector<TestToken> all;
    add_row(all, 1, 0, 180);
    const TestStep<T> whole = world.make_step(all);
    for (int32_t from = 0; from < 180; from += chunk) {
      AppendOp<T> op = append_op(world, whole);
      const int32_t count = std::min(chunk, 180 - from);
      op.tokens.position += from;
      op.tokens.seat += from;
      op.tokens.count = count;
      op.k += int64_t{from} * whole.stride;
      op.v += int64_t{from} * whole.stride;
      op.angles += int64_t{from} * shape.head_dim;
      append(nullptr, op);
    }
    world.expect(whole);
    same_bits(download(world.device_k), world.k, "K");
    const auto now = download(world.device_mean_k);
    for (int32_t p = 0; p < kPlanes; p++) {
      const auto plane = download(world.device_codes[p]);
      if (chunk == 180)
        codes[p] = plane;
      else
        same_bits(plane, codes[p], "codes");
    }
    if (chunk == 180)
      means = now;
    else
      same_bits(now, means, "means");
  }
}

// The kernel anyone would write first: what it stores is the same to the bit, codes but for bits
// near 0.
TEST(the_naive_kernel_agrees) {
  check::need_gpu();
  using T = __nv_bfloat16;
  CodeShape shape;
  shape.kinds[1] = kNoEncoder;
  CodeWorld<T> world(shape, 11);
  for (const auto& tokens : ragged_steps()) {
    const TestStep<T> step = world.make_step(tokens);
    append_naive(append_op(world, step));
    world.expect(step);
  }
  NearZero count;
  world.check_cache(count);
  count.report("naive");
}

TEST(angles_are_those_of_the_cpu) {
  check::need_gpu();
  const std::vector<int32_t> positions = {0, 1, 63, 8191, 131071, 1048575};
  for (const int32_t dim : {64, 96, 128, 256}) {
    RopeConfig rope;
    rope.theta = 1e6f;
    RopeFrequencies frequencies = rope_frequencies(rope, dim);
    frequencies.magnitude = 1.2f;
    const auto count = static_cast<int32_t>(positions.size());
    std::vector<float> expected(positions.size() * dim);
    rope_table(frequencies, positions.data(), count, expected.data());
    const auto inverse = upload(frequencies.inverse);
    const auto device_positions = upload(positions);
    DeviceBuffer<float> angles(expected.size());
    make_angles(nullptr, inverse.data(), frequencies.magnitude, device_positions.data(), count, dim,
                angles.data());
    CHECK_CLOSE(download(angles), expected, 1e-7, 1e-6);
  }
}

}  // namespace
}  // namespace spotlight::gpu::test
