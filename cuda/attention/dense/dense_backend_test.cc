// The dense backend against the definition: chunks, single tokens, split contexts, and what append
// leaves alone.
#include "attention/plan.h"
#include "attention/test_world.h"
#include "test/check.h"

namespace spotlight {
namespace {

TEST(chunks_and_decodes_match_the_definition) {
  for (const std::string& isa : available_isas()) {
    select_isa(isa);
    for (int32_t threads = 1; threads <= 4; threads++) {
      Shape shape;
      shape.kv_heads = 3;
      shape.blocks = 40;
      TestWorld world(shape, 31);
      const auto backend = make_backend("dense");
      TestSequence a(world, 1300), b(world, 77);
      const std::vector<LayerPolicy> policies(1);
      const int32_t edges[] = {0, 1, 5, 64, 127, 128, 700, 707, 1299, 1300};
      for (int i = 0; i + 1 < 10; i++) {
        TestStep step(world, 0);
        const int32_t first = edges[i], tokens = edges[i + 1] - first;
        step.add(a, first, tokens, i % 2 == 1, policies, 0, true);
        if (i < 7) step.add(b, 11 * i, 11, false, policies);
        step.run(world, *backend, threads);
        for (const int32_t t : {0, tokens / 2, tokens - 1})
          CHECK_CLOSE(step.output(0, t),
                      reference_dense(a.cache, a.query(first + t), first + t).out, 2e-5, 1e-4);
        if (i < 7)
          CHECK_CLOSE(step.output(1, 10),
                      reference_dense(b.cache, b.query(11 * i + 10), 11 * i + 10).out, 2e-5, 1e-4);
        for (int32_t h = 0; h < 3; h++) CHECK(step.trace(0, h).empty());
      }
      CHECK_EQ(world.counters.dense_fallback_rows.load(), 4);
      CHECK_EQ(world.counters.sparse_rows.load(), 0);
      for (const uint32_t word : world.codes[0]) CHECK_EQ(word, 0xdeadbeefu);
    }
  }
  select_isa("auto");
}

TEST(append_writes_its_tokens_and_nothing_else) {
  Shape shape;
  shape.blocks = 6;
  TestWorld world(shape, 2);
  const auto backend = make_backend("spotlight");
  TestSequence sequence(world, 200);
  const std::vector<LayerPolicy> policies(1);
  for (const auto& span : {std::pair{0, 60}, {60, 3}, {63, 1}, {64, 130}}) {
    TestStep step(world, 0);
    step.add(sequence, span.first, span.second, false, policies);
    step.run(world, *backend, 3);
    const int32_t stored = span.first + span.second;
    for (int32_t t = 0; t < 4 * kBlockSize; t++)
      for (int32_t h = 0; h < shape.kv_heads; h++) {
        const int32_t block = sequence.table[t / kBlockSize];
        const half_bits* key = world.arena.k_block(0, block, h) + t % kBlockSize * shape.head_dim;
        if (t >= stored)
          CHECK_EQ(key[5], 0x7e00);
        else
          CHECK_EQ(half_to_float(key[5]), sequence.cache.key(t, h)[5]);
        const bool closed = (t / kBlockSize + 1) * kBlockSize <= stored;
        CHECK_EQ(world.arena.mean_v_at(0, block, h)[7] != 0x7e00, closed);
      }
  }
}

TEST(ranges_share_work_evenly_and_stay_bounded) {
  for (int32_t threads = 1; threads <= 64; threads++)
    for (int32_t items = 1; items <= 300; items += 7)
      for (const int32_t blocks : {1, 3, 16, 124, 2048}) {
        const int32_t ranges = split_ranges(items, threads, blocks);
        CHECK(ranges >= 1 && ranges <= std::max(1, (blocks + 3) / 4));
        CHECK(ranges == 1 || items * ranges <= kMaxUnits);
      }
  CHECK_EQ(split_ranges(3, 2, 124), 4);  // twelve pieces for two threads
  CHECK_EQ(split_ranges(8, 2, 124), 1);
  CHECK_EQ(split_ranges(3, 1, 124), 1);
}

TEST(the_barrier_keeps_threads_in_step) {
  constexpr int32_t kThreads = 5, kRounds = 2000;
  std::atomic<int32_t> sum{0};
  std::atomic<bool> wrong{false};
  TestWorld::in_team(kThreads, 0, 0, [&](Team& team) {
    for (int32_t round = 1; round <= kRounds; round++) {
      sum.fetch_add(1);
      team.meet();
      if (sum.load() != round * kThreads) wrong = true;
      team.meet();
    }
  });
  CHECK(!wrong.load());
}

// One of four fails while two wait at the barrier and one for something it would have done.
TEST(a_thread_that_fails_lets_the_others_go) {
  std::atomic<int32_t> left{0}, let_go{0}, mended{0};
  TestWorld::in_team(4, 0, 0, [&](Team& team) {
    for (int32_t round = 0; round < 50; round++) {
      try {
        if (team.ith == 3) throw 1;
        if (team.ith == 2) team.wait_until([] { return false; });
        team.meet();
      } catch (int) {
        team.barrier->break_up();
      } catch (const TeamBroken&) {
        let_go.fetch_add(1);
      }
      left.fetch_add(1);
      while (left.load() < 4 * (round + 1)) sched_yield();
      if (team.ith == 0) {
        team.barrier->mend();
        mended.store(round + 1);
      }
      while (mended.load() <= round) sched_yield();
      team.meet();
    }
  });
  CHECK_EQ(let_go.load(), 3 * 50);
}

}  // namespace
}  // namespace spotlight
