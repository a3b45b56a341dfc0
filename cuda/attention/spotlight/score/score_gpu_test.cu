// What the score kernel leaves behind against the CPU's scores and histograms: the scores, counts
// of at least each score of a query and of every stretch of its pieces.
#include <cuda_runtime.h>

#include "attention/gpu/retrieval_world.h"
#include "attention/spotlight/score/score_gpu.h"
#include "device/cuda/runtime/gpu_test.h"

namespace spotlight::gpu {
namespace {

using World = RetrievalWorld<__nv_bfloat16>;

template <typename E>
std::vector<E> fetch(const E* from, int64_t count) {
  std::vector<E> to(static_cast<size_t>(count));
  CUDA_CHECK(cudaMemcpy(to.data(), from, to.size() * sizeof(E), cudaMemcpyDeviceToHost));
  return to;
}

// Counts of the scores at least s of positions [from, to), [histogram()].
std::vector<uint32_t> count_at_least(const World& world, const std::vector<int16_t>& scores,
                                     int32_t from, int32_t to) {
  std::vector<uint32_t> counts(world.shape.histogram());
  for (int32_t t = from; t < to; t++) counts[scores[t]]++;
  for (int32_t s = world.shape.bins() - 2; s >= 0; s--) counts[s] += counts[s + 1];
  return counts;
}

void check_scores(World& world) {
  const RetrievalShape& shape = world.shape;
  const int32_t heads = shape.virtual_heads();
  score(nullptr, world.score_op());
  CUDA_CHECK(cudaDeviceSynchronize());
  const Workspace& workspace = world.workspace;
  for (size_t i = 0; i < world.queries.host.size(); i++) {
    const Query& query = world.queries.host[i];
    const QueryShare& share = world.shares.host[i];
    if (share.score_pieces == 0) continue;
    const int32_t blocks = world.blocks_of(query.context);
    const int32_t from = query.sink, to = query.context - query.recent;
    for (int32_t head = 0; head < heads; head++) {
      const int64_t unit = static_cast<int64_t>(i) * heads + head;
      const std::vector<int16_t> scores = world.scores(i, head);
      const auto made = fetch(workspace.scores + world.linear(i, head) * 32, int64_t{blocks} * 32);
      for (int32_t position = from; position < to; position++) {
        const uint32_t pair = made[position / kBlockSize * 32 + position % 32];
        CHECK_EQ(static_cast<int32_t>(position / 32 % 2 ? pair >> 16 : pair & 0xffff),
                 scores[position]);
      }
      CHECK(fetch(workspace.at_least + unit * shape.histogram(), shape.histogram()) ==
            count_at_least(world, scores, from, to));
      if (share.score_pieces * share.stretches == 1) continue;
      for (int32_t part = 0; part < share.score_pieces; part++) {
        const auto edge = [&](int32_t p) {
          return blocks / share.score_pieces * p + std::min(p, blocks % share.score_pieces);
        };
        const int32_t first = edge(part), last = edge(part + 1);
        const int64_t slot = stretch_slot(share, heads, head * share.score_pieces + part);
        for (int32_t stretch = 0; stretch < share.stretches; stretch++) {
          const int32_t begin = std::min(first + stretch * share.stretch, last);
          const int32_t end = std::min(begin + share.stretch, last);
          CHECK(fetch(workspace.at_least_of + (slot + stretch) * shape.histogram(),
                      shape.histogram()) == count_at_least(world, scores,
                                                           std::clamp(begin * kBlockSize, from, to),
                                                           std::clamp(end * kBlockSize, from, to)));
        }
      }
    }
  }
  // The counts are attend's to clear.
  CUDA_CHECK(cudaMemset(workspace.at_least, 0,
                        world.queries.host.size() * heads * shape.histogram() * sizeof(uint32_t)));
}

TEST(scores_and_counts) {
  check::need_gpu();
  for (const EncoderKind encoder : {kLinearAsym, kMlp})
    for (const int32_t bits : {32, 96, 128, 256, 512}) {
      World world({3, 2, 64, encoder, bits, bits == 128 ? 4 : 0, 1000, 2});
      const int32_t seat = world.add_sequence(3000), other = world.add_sequence(700);
      world.add_query(seat, 3000, kQueryTail, 200);
      world.add_padding();
      world.add_query(other, 700, kQuerySparse, 100, 1);
      world.add_query(seat, 2049, kQuerySparse, 150, 1, 0, 0);
      world.add_query(other, 65, kQueryTail, 5, 0, 1, 1);
      world.add_query(other, 500, kQueryDense, 500);
      world.build();
      check_scores(world);
    }
}

TEST(pieces_and_stretches) {
  check::need_gpu();
  World world({4, 7, 64});
  const int32_t seat = world.add_sequence(33000);
  world.add_query(seat, 33000, kQueryTail, 660);
  world.build();
  CHECK(world.shares.host[0].score_pieces > 1);
  check_scores(world);

  World crowd({8, 1, 64});
  const int32_t shared = crowd.add_sequence(20000);
  for (int32_t i = 0; i < 100; i++) crowd.add_query(shared, 18900 + 7 * i, kQueryTail, 500);
  crowd.build();
  CHECK_EQ(crowd.shares.host[0].score_pieces, 1);
  CHECK(crowd.shares.host[0].stretches > 1);
  check_scores(crowd);
}

}  // namespace
}  // namespace spotlight::gpu
