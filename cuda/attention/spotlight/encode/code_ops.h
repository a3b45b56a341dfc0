// The operations of a test's step, and steps that cut rows where it hurts.
#pragma once

#include "attention/spotlight/append/append.h"
#include "attention/spotlight/encode/code_world.h"
#include "attention/spotlight/query/query_code.h"

namespace spotlight::gpu::test {

template <typename T>
AppendOp<T> append_op(const CodeWorld<T>& world, const TestStep<T>& step) {
  AppendOp<T> op;
  op.cache = world.cache();
  op.tokens = world.tokens(step);
  op.k = step.device_qkv.data() + step.k_at;
  op.v = step.device_qkv.data() + step.v_at;
  op.k_stride = op.v_stride = step.stride;
  op.angles = step.device_angles.data();
  op.encoders = world.encoders.data();
  return op;
}

// Steps of a small service: prompts cut where it happens, decode tokens, padding between and after.
inline std::vector<std::vector<TestToken>> ragged_steps() {
  std::vector<std::vector<TestToken>> steps(5);
  add_row(steps[0], 0, 0, 100);  // closes a block inside
  add_row(steps[0], 1, 0, 64);   // a block exactly
  add_row(steps[1], 0, 100, 1);
  steps[1].push_back({-1, 0});
  add_row(steps[1], 2, 0, 63);
  add_row(steps[1], 1, 64, 61);
  steps[1].push_back({-1, 0});
  add_row(steps[2], 2, 63, 1);    // closes a block with one token
  add_row(steps[2], 0, 101, 27);  // ... with 27, up to its end
  add_row(steps[2], 1, 125, 5);   // ... and goes on behind it
  add_row(steps[3], 2, 64, 70);
  add_row(steps[3], 3, 0, 129);
  for (int32_t i = 0; i < 3; i++) steps[3].push_back({-1, 0});
  add_row(steps[4], 3, 129, 1);
  return steps;
}

template <typename T>
QueryOp<T> query_op(const CodeWorld<T>& world, const TestStep<T>& step) {
  QueryOp<T> op;
  op.query_heads = world.shape.query_heads();
  op.kv_heads = world.shape.kv_heads;
  op.head_dim = world.shape.head_dim;
  op.q = step.device_qkv.data();
  op.q_stride = step.stride;
  op.angles = step.device_angles.data();
  op.tokens = world.tokens(step);
  op.queries = step.query_view();
  op.encoders = world.encoders.data();
  op.codes = {step.codes.data(), world.shape.code_stride()};
  return op;
}

struct TestHeads {
  int32_t dim, group, bits;
};
// Every head size, group sizes up to the largest, code widths down to a word.
inline std::vector<TestHeads> all_heads() {
  return {{64, 3, 128}, {96, 5, 96}, {128, 7, 128}, {256, 1, 256}, {64, 16, 32}, {128, 8, 64}};
}

}  // namespace spotlight::gpu::test
