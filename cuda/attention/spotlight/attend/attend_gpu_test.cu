// Retrieval attention on the GPU, both kernels together: selected sets against the CPU's select on
// the same codes, outputs against fp64.
#include <cuda_runtime.h>

#include "attention/gpu/retrieval_world.h"
#include "device/cuda/runtime/gpu_test.h"

namespace spotlight::gpu {
namespace {

using Bf16 = __nv_bfloat16;

template <typename T>
bool same_bits(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0;
}

// Every mode, both planes, padding, and two queries of one sequence with causal limits of their
// own.
template <typename T>
void add_mixed_batch(RetrievalWorld<T>& world) {
  const int32_t long_one = world.add_sequence(1500), short_one = world.add_sequence(330);
  const int32_t tiny = world.add_sequence(5), whole = world.add_sequence(640);
  world.add_query(long_one, 1500, kQueryTail, 160);
  world.add_padding();
  world.add_query(tiny, 5, kQueryDense, 5);
  world.add_query(short_one, 330, kQuerySparse, 90, 1);
  world.add_query(long_one, 1409, kQueryTail, 120, 1);
  world.add_query(whole, 640, kQueryTail, 150);
  world.add_query(short_one, 257, kQueryDense, 257);
  world.add_padding();
}

TEST(every_head_dim_and_group) {
  check::need_gpu();
  for (const int32_t dim : {64, 96, 128, 256})
    for (int32_t group = 1; group <= 16; group++) {
      RetrievalWorld<Bf16> world({1 + group % 2, group, dim});
      add_mixed_batch(world);
      world.build();
      world.run();
      world.check(world.expected(),
                  "head_dim " + std::to_string(dim) + ", group " + std::to_string(group));
    }
}

TEST(fp16) {
  check::need_gpu();
  for (const int32_t dim : {64, 96, 128, 256}) {
    RetrievalWorld<__half> world({2, 7, dim});
    add_mixed_batch(world);
    world.build();
    world.run();
    world.check(world.expected(), "fp16, head_dim " + std::to_string(dim));
  }
}

TEST(a_selection_a_query_head) {
  check::need_gpu();
  for (const int32_t bits : {32, 128, 256}) {
    RetrievalWorld<Bf16> world({2, 5, 64, kMlp, bits, 0, 1000, 3});
    add_mixed_batch(world);
    world.build();
    const Expected expected = world.expected();
    world.run();
    world.check(expected, "mlp, bits " + std::to_string(bits));
  }
}

TEST(every_width_of_codes) {
  check::need_gpu();
  for (const int32_t bits : {32, 64, 128, 160, 256, 512})
    for (const int32_t spare : {0, 1, 4}) {
      RetrievalWorld<Bf16> world({2, 3, 64, kLinearAsym, bits, spare});
      add_mixed_batch(world);
      world.build();
      world.run();
      world.check(world.expected(),
                  "bits " + std::to_string(bits) + ", spare words " + std::to_string(spare));
    }
}

TEST(ties_go_to_the_newest) {
  check::need_gpu();
  for (const int32_t used_bits : {0, 1, 2, 5}) {
    RetrievalWorld<Bf16> world({4, 7, 128, kLinearAsym, 128, 0, used_bits, 9});
    for (const int32_t context : {300, 2000, 4097}) {
      const int32_t seat = world.add_sequence(context);
      for (const int32_t k : {69, 100, 200, context / 2, context - 1})
        world.add_query(seat, context, k % 2 ? kQueryTail : kQuerySparse, k, k % 3 == 0);
    }
    world.build();
    const Expected expected = world.expected();
    world.run();
    world.check(expected, "used bits " + std::to_string(used_bits));
  }
}

TEST(contexts_at_block_borders_and_small_budgets) {
  check::need_gpu();
  RetrievalWorld<Bf16> world({2, 4, 64, kLinearAsym, 128, 0, 1000, 4});
  for (const int32_t context : {1, 2, 63, 64, 65, 127, 128, 129, 191, 192, 193, 1023, 1024, 1025}) {
    const int32_t seat = world.add_sequence(context);
    world.add_query(seat, context, kQueryTail, 70);
    world.add_query(seat, context, kQuerySparse, 0);              // nothing beyond sink and recent
    world.add_query(seat, context, kQueryTail, 0, 0, 0, 0);       // nothing but the open block
    world.add_query(seat, context, kQueryTail, 3, 1, 0, 0);       // no forced tokens
    world.add_query(seat, context, kQuerySparse, 40, 1, 17, 10);  // the open block reads more
    world.add_query(seat, context, kQueryTail, context - 1);
    world.add_query(seat, context, kQueryDense, context);
  }
  world.build();
  // With k 0 and no open block nothing would be read at all: no such query exists.
  for (Query& query : world.queries.host)
    if (query.k == 0 && query.mode == kQuerySparse && query.context % kBlockSize == 0)
      query.mode = kQueryNone;
  world.plan();
  world.run();
  world.check(world.expected(), "borders");
}

TEST(long_contexts_in_many_pieces) {
  check::need_gpu();
  for (const int32_t kv_heads : {1, 4}) {
    RetrievalWorld<Bf16> world({kv_heads, 7, 128, kLinearAsym, 128, 0, 1000, 6});
    const int32_t seat = world.add_sequence(20011);
    world.add_query(seat, 20011, kQueryTail, 400);
    world.build();
    const Expected expected = world.expected();
    world.run();
    world.check(expected, "in pieces");
  }
}

TEST(more_rows_than_the_list_holds) {
  check::need_gpu();
  RetrievalWorld<Bf16> world({1, 2, 64});
  const int32_t seat = world.add_sequence(9000);
  for (int32_t i = 0; i < 150; i++)  // enough queries that none is cut small
    world.add_query(seat, 8600 + i, i % 3 ? kQueryDense : kQueryTail, 6000 + i);
  world.build();
  world.run();
  world.check(world.expected(), "long lists");
}

TEST(the_workspace_is_left_as_it_was_found) {
  check::need_gpu();
  RetrievalWorld<Bf16> world({4, 7, 128, kLinearAsym, 128, 0, 1000, 10});
  const int32_t long_one = world.add_sequence(6000), other = world.add_sequence(3000);
  for (int32_t i = 0; i < 12; i++)
    world.add_query(i % 2 ? long_one : other, i % 2 ? 6000 - i : 3000 - 64 * i, kQueryTail, 300);
  world.build();
  const std::vector<Query> all = world.queries.host;
  world.run();
  world.check(world.expected(), "all");
  const std::vector<Bf16> first = world.out.host;
  for (const int32_t kept : {1, 5, 3}) {
    world.queries.host.assign(all.begin(), all.begin() + kept);
    for (Query& query : world.queries.host) query.context -= 700, query.k -= 50;
    world.plan();
    world.run();
    world.check(world.expected(), "the first " + std::to_string(kept));
  }
  world.queries.host = all;
  world.plan();
  world.run();
  CHECK(same_bits(world.out.host, first));
}

TEST(without_an_artifact_every_query_is_dense) {
  check::need_gpu();
  RetrievalWorld<Bf16> world({2, 7, 128, kNoEncoder});
  for (const int32_t context : {1, 64, 200, 3000}) {
    const int32_t seat = world.add_sequence(context);
    world.add_query(seat, context, kQueryDense, context);
  }
  world.build();
  world.run();
  world.check(world.expected(), "dense");
}

TEST(the_naive_kernels_do_the_same) {
  check::need_gpu();
  for (const EncoderKind encoder : {kLinearAsym, kMlp}) {
    RetrievalWorld<Bf16> world({2, 3, 64, encoder});
    add_mixed_batch(world);
    world.build();
    const Expected expected = world.expected();
    world.run(true);
    world.check(expected, "naive");
    world.run();
    world.check(expected, "shipped after naive");
  }
}

}  // namespace
}  // namespace spotlight::gpu
