// The decode step's one launch against the host, and to the bit against append and encode_queries:
// blocks that close, padding, both planes and encoders, group sizes beyond a cluster.
#include "attention/spotlight/encode/code_ops.h"
#include "attention/spotlight/hash/hash.h"
#include "device/cuda/runtime/gpu_test.h"

namespace spotlight::gpu::test {
namespace {

template <typename T>
HashOp<T> hash_op(const CodeWorld<T>& world, const TestStep<T>& step) {
  HashOp<T> op;
  op.cache = world.cache();
  op.tokens = world.tokens(step);
  op.queries = step.query_view();
  op.q = step.device_qkv.data();
  op.k = step.device_qkv.data() + step.k_at;
  op.v = step.device_qkv.data() + step.v_at;
  op.q_stride = op.k_stride = op.v_stride = step.stride;
  op.angles = step.device_angles.data();
  op.encoders = world.encoders.data();
  op.codes = {step.codes.data(), world.shape.code_stride()};
  return op;
}

// Eleven seats, so that a step takes two tiles; each with some tokens, one short of a closed block
// among them.
constexpr int32_t kSeats = 11;
int32_t prompt(int32_t seat) { return seat % 4 == 1 ? 63 : seat % 4 == 2 ? 127 : 5 * seat + 1; }

std::vector<TestToken> decode_tokens(int32_t after) {
  std::vector<TestToken> tokens;
  for (int32_t seat = kSeats; seat-- > 0;) tokens.push_back({seat, prompt(seat) + after});
  for (const int32_t at : {3, 9}) tokens[at].seat = -1;
  tokens.push_back({-1, 0});
  return tokens;
}

template <typename T>
void check_shape(CodeShape shape, NearZero& keys, NearZero& queries) {
  shape.seats = kSeats;
  shape.blocks = 3 * kSeats;
  CodeWorld<T> ours(shape, 17), theirs(shape, 17);
  for (int32_t after = -1; after < 2; after++) {
    std::vector<TestToken> tokens;
    if (after < 0)
      for (int32_t seat = 0; seat < kSeats; seat++) add_row(tokens, seat, 0, prompt(seat));
    else
      tokens = decode_tokens(after);
    const TestStep<T> step = ours.make_step(tokens), same = theirs.make_step(tokens);
    append(nullptr, append_op(theirs, same));
    encode_queries(nullptr, query_op(theirs, same));
    if (after < 0) {
      append(nullptr, append_op(ours, step));
    } else {
      hash(nullptr, hash_op(ours, step), after == 1);
      same_bits(download(step.device_qkv), download(same.device_qkv), "q");
      same_bits(download(step.codes), download(same.codes), "query codes");
      ours.check_queries(step, queries);
    }
    ours.expect(step);
  }
  for (int32_t p = 0; p < kPlanes; p++)
    same_bits(download(ours.device_codes[p]), download(theirs.device_codes[p]), "key codes");
  ours.check_cache(keys);
}

template <typename T>
void check_shapes() {
  NearZero linear_keys, linear_queries, mlp_keys, mlp_queries;
  for (const TestHeads& heads : all_heads()) {
    CodeShape shape;
    shape.head_dim = heads.dim;
    shape.group = heads.group;
    shape.bits = heads.bits;
    if (heads.group == 7) shape.kinds[0] = kNoEncoder;
    check_shape<T>(shape, linear_keys, linear_queries);
  }
  linear_keys.report("linear-asym keys");
  linear_queries.report("linear-asym queries");
  for (const EncoderKind other : {kLinearAsym, kMlp}) {
    CodeShape shape;
    shape.kinds[0] = kMlp;
    shape.kinds[1] = other;
    shape.bits = shape.hidden = 64;
    check_shape<T>(shape, mlp_keys, mlp_queries);
  }
  mlp_keys.report("mlp keys");
  mlp_queries.report("mlp queries");
}

TEST(a_decode_step_is_hashed_as_append_and_query_codes_do_in_bf16) {
  check::need_gpu();
  check_shapes<__nv_bfloat16>();
}

TEST(a_decode_step_is_hashed_as_append_and_query_codes_do_in_fp16) {
  check::need_gpu();
  check_shapes<__half>();
}

TEST(the_same_step_gives_the_same_bits_again) {
  check::need_gpu();
  using T = __nv_bfloat16;
  CodeShape shape;
  shape.head_dim = 128;
  shape.group = 7;
  shape.seats = kSeats;
  shape.blocks = 3 * kSeats;
  std::vector<uint32_t> first;
  for (int32_t run = 0; run < 20; run++) {
    CodeWorld<T> world(shape, 23);
    const TestStep<T> step = world.make_step(decode_tokens(0));
    hash(nullptr, hash_op(world, step), true);
    const std::vector<uint32_t> codes = download(step.codes);
    if (run == 0) first = codes;
    same_bits(codes, first, "query codes");
  }
}

}  // namespace
}  // namespace spotlight::gpu::test
