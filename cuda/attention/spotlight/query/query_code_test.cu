// RoPE and codes of queries on the GPU against the host: every head size and group size, both
// encoders, queries of both planes in one step, dense ones and padding among them.
#include "attention/spotlight/encode/code_ops.h"
#include "attention/spotlight/query/query_code.h"
#include "attention/spotlight/query/query_naive.cuh"
#include "device/cuda/runtime/gpu_test.h"

namespace spotlight::gpu::test {
namespace {

// More tokens than a block of threads takes, and not a multiple of it.
std::vector<TestToken> many_tokens() {
  std::vector<TestToken> tokens;
  add_row(tokens, 0, 3, 21);
  tokens.push_back({-1, 0});
  add_row(tokens, 3, 60, 15);
  tokens.push_back({-1, 0});
  return tokens;
}

template <typename T>
void check_shape(const CodeShape& shape, NearZero& count) {
  CodeWorld<T> world(shape, 5);
  for (const auto& tokens : {many_tokens(), std::vector<TestToken>{{1, 17}}}) {
    const TestStep<T> step = world.make_step(tokens);
    encode_queries(nullptr, query_op(world, step));
    world.check_queries(step, count);
  }
}

template <typename T>
void check_shapes() {
  NearZero linear, mlp;
  for (const TestHeads& heads : all_heads()) {
    CodeShape shape;
    shape.head_dim = heads.dim;
    shape.group = heads.group;
    shape.bits = heads.bits;
    if (heads.group == 5) shape.kinds[0] = kNoEncoder;
    check_shape<T>(shape, linear);
  }
  linear.report("linear-asym");
  for (const int32_t hidden : {48, 64, 128}) {
    CodeShape shape;
    shape.kinds[0] = kMlp;
    shape.bits = 64;  // hidden 64: both residuals
    shape.hidden = hidden;
    check_shape<T>(shape, mlp);
  }
  mlp.report("mlp");
}

TEST(queries_turn_and_become_codes_in_bf16) {
  check::need_gpu();
  check_shapes<__nv_bfloat16>();
}

TEST(queries_turn_and_become_codes_in_fp16) {
  check::need_gpu();
  check_shapes<__half>();
}

TEST(a_step_without_queries_only_turns) {
  check::need_gpu();
  using T = __nv_bfloat16;
  CodeWorld<T> world(CodeShape(), 9);
  TestStep<T> step = world.make_step(many_tokens());
  QueryOp<T> op = query_op(world, step);
  op.queries = {};
  encode_queries(nullptr, op);
  for (Query& query : step.queries) query.mode = kQueryDense;
  NearZero none;
  world.check_queries(step, none);
}

TEST(the_naive_kernel_agrees) {
  check::need_gpu();
  using T = __nv_bfloat16;
  CodeWorld<T> world(CodeShape(), 13);
  const TestStep<T> step = world.make_step(many_tokens());
  encode_queries_naive(query_op(world, step));
  NearZero count;
  world.check_queries(step, count);
  count.report("naive");
}

}  // namespace
}  // namespace spotlight::gpu::test
