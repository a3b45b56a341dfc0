// The plan of the retrieval kernels: pieces cover the work, fit their memory and are spread evenly.
#include "attention/gpu/retrieval.h"

#include <algorithm>
#include <random>
#include <vector>

#include "test/check.h"

namespace spotlight::gpu {
namespace {

RetrievalShape shape_of(int32_t kv_heads, int32_t group, EncoderKind encoder = kLinearAsym) {
  RetrievalShape shape;
  shape.query_heads = kv_heads * group;
  shape.kv_heads = kv_heads;
  shape.head_dim = 128;
  shape.encoder = encoder;
  shape.bits = 128;
  shape.max_queries = 5000;
  shape.max_blocks = 1 << 24;
  shape.multiprocessors = 132;
  shape.capability = 90;
  return shape;
}

Query query_of(int32_t context, QueryMode mode = kQueryTail) {
  Query query;
  query.context = context;
  query.sink = 4;
  query.recent = 64;
  query.k = std::max(256, context / 50);
  query.mode = query.k < context ? mode : kQueryDense;
  query.seat = 0;
  return query;
}

struct Plan {
  std::vector<int32_t> block_start;
  std::vector<QueryShare> shares;
};

Plan plan_of(const RetrievalShape& shape, const std::vector<Query>& list) {
  Plan plan{std::vector<int32_t>(list.size() + 1), std::vector<QueryShare>(list.size() + 1)};
  plan_queries(shape, list.data(), static_cast<int32_t>(list.size()), plan.block_start.data(),
               plan.shares.data());
  return plan;
}

TEST(one_query_takes_every_multiprocessor_once) {
  for (const int32_t context : {32768, 131072, 524288, 1048576, 2097152}) {
    const QueryShare all = plan_of(shape_of(4, 7), {query_of(context)}).shares[1];
    // Long ones put two pieces on a multiprocessor.
    const int32_t score_pieces = context < 524288 ? 33 : 66;
    CHECK(all.score_start == score_pieces || all.score_start == score_pieces - 1);
    CHECK_EQ(all.attend_start, context == 32768 ? 19 : context == 131072 ? 33 : 66);
  }
  // A short one is not cut to shreds.
  const QueryShare small = plan_of(shape_of(4, 7), {query_of(2048)}).shares[1];
  CHECK_EQ(small.score_start, 4);
  CHECK_EQ(small.attend_start, 5);
}

TEST(equal_queries_go_in_whole_rounds) {
  const RetrievalShape shape = shape_of(4, 7);
  for (const int32_t count : {2, 8, 16, 32, 33}) {
    const QueryShare all =
        plan_of(shape, std::vector<Query>(count, query_of(131072))).shares[count];
    const int32_t pieces = 4 * all.attend_start;
    const int32_t rounds = (pieces + 263) / 264;
    CHECK(pieces > rounds * 264 * 3 / 4);
  }
}

TEST(slots_never_overflow_and_starts_add_up) {
  std::mt19937 random(3);
  for (int32_t round = 0; round < 300; round++) {
    const RetrievalShape shape =
        shape_of(1 + static_cast<int32_t>(random() % 8), 4, round % 5 ? kLinearAsym : kMlp);
    std::vector<Query> list;
    const int32_t count = 1 + static_cast<int32_t>(random() % (round % 7 ? 40 : 2000));
    for (int32_t i = 0; i < count; i++) {
      const int32_t context = 1 + static_cast<int32_t>(random() % (random() % 9 ? 5000 : 1000000));
      list.push_back(random() % 5 ? query_of(context, random() % 3 ? kQueryTail : kQueryDense)
                                  : Query{});
    }
    const Plan plan = plan_of(shape, list);
    for (int32_t i = 0; i < count; i++) {
      const QueryShare &share = plan.shares[i], &next = plan.shares[i + 1];
      CHECK_EQ(next.score_start - share.score_start, share.score_pieces);
      CHECK_EQ(next.attend_start - share.attend_start, share.attend_pieces);
      const int32_t stretches = share.score_pieces * share.stretches;
      CHECK_EQ(next.score_slot - share.score_slot, stretches > 1 ? stretches : 0);
      CHECK_EQ(next.attend_slot - share.attend_slot,
               share.attend_pieces > 1 ? share.attend_pieces : 0);
      CHECK_EQ(share.attend_pieces > 0, list[i].mode != kQueryNone);
      CHECK_EQ(share.score_pieces > 0, list[i].mode >= kQuerySparse && list[i].k > 68);
      const int32_t blocks = plan.block_start[i + 1] - plan.block_start[i];
      CHECK(share.score_pieces <= blocks);
      if (share.score_pieces == 0) continue;
      CHECK_EQ(share.stretch % 64, 0);
      CHECK(stretches * share.stretch >= blocks);
    }
    CHECK(plan.shares[count].score_slot * shape.virtual_heads() <= shape.stretch_slots());
    CHECK(plan.shares[count].attend_slot * shape.virtual_heads() <= shape.slots());
  }
}

TEST(what_has_no_room_is_refused) {
  RetrievalShape shape = shape_of(4, 7);
  shape.max_queries = 2;
  shape.max_blocks = 1000;
  CHECK_THROWS(plan_of(shape, std::vector<Query>(3, query_of(64))), kInvalidArgument, "room for 2");
  CHECK_THROWS(plan_of(shape, {query_of(64001)}), kInvalidArgument, "room for 1000");
  shape.head_dim = 80;
  CHECK_THROWS(workspace_bytes(shape), kModelUnsupported, "head_dim");
  shape.head_dim = 128;
  shape.bits = 100;
  CHECK_THROWS(workspace_bytes(shape), kModelUnsupported, "100 bits");
  CHECK_THROWS(workspace_bytes(shape_of(1, 17)), kModelUnsupported, "query heads");
  shape = shape_of(4, 7);
  shape.capability = 89;
  CHECK_THROWS(workspace_bytes(shape), kModelUnsupported, "capability 8.9");
  shape.head_dim = 64;
  CHECK(workspace_bytes(shape) > 0);
}

TEST(a_workspace_is_as_large_as_it_says) {
  const RetrievalShape shape = shape_of(4, 7);
  char* memory = nullptr;
  memory += 4096;
  const Workspace workspace = make_workspace(shape, memory);
  const auto* end =
      reinterpret_cast<const char*>(workspace.partials + int64_t{shape.slots()} * (32 + 7 * 128));
  CHECK(end <= memory + workspace_bytes(shape));
  CHECK(reinterpret_cast<const char*>(workspace.scores) == memory);
}

}  // namespace
}  // namespace spotlight::gpu
