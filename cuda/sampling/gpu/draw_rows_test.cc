#include "sampling/gpu/draw_rows.h"

#include <cmath>

#include "test/check.h"

namespace spotlight::gpu {
namespace {

TEST(a_task_that_draws_nothing_has_no_seat) {
  std::vector<LogitEdit> edits;
  LogitsTask task;
  task.target = 3;
  const DrawRow row = make_draw_row(task, 100, edits);
  CHECK_EQ(row.seat, -1);
  CHECK(edits.empty());
}

TEST(what_is_off_is_off) {
  SamplingParams params;
  params.temperature = 0;
  params.top_k = 100;
  LogitsTask task;
  task.params = &params;
  task.seat = 4;
  std::vector<LogitEdit> edits;
  const DrawRow row = make_draw_row(task, 100, edits);
  CHECK_EQ(row.seat, 4);
  CHECK_EQ(row.greedy, 1);
  CHECK_EQ(row.top_k, 0);  // all tokens are no cut
  CHECK_EQ(row.has_min_p, 0);
  CHECK_EQ(row.inverse, 1.f);
}

TEST(edits_are_by_token_and_biases_of_one_token_stay_in_order) {
  SamplingParams params;
  params.logit_bias = {{7, 1.f}, {2, 2.f}, {7, 3.f}};
  params.banned = {2, 9};
  params.banned_until = 5;
  params.repetition_penalty = 2.f;
  TokenCounts counts;
  counts.drawn = {{7, 3}};
  counts.prompt = {{7, 1}, {1, 4}};
  LogitsTask task;
  task.params = &params;
  task.counts = &counts;
  task.position = 4;
  std::vector<LogitEdit> edits(2);  // of another row
  DrawRow row = make_draw_row(task, 100, edits);
  CHECK_EQ(row.edit_begin, 2);
  CHECK_EQ(row.edit_end, 7);
  const auto is = [&](int at, int32_t token, float bias, int32_t drawn, int32_t flags) {
    const LogitEdit& edit = edits[2 + at];
    CHECK_EQ(edit.token, token);
    CHECK_EQ(edit.bias, bias);
    CHECK_EQ(edit.drawn, drawn);
    CHECK_EQ(edit.flags, flags);
  };
  is(0, 1, 0.f, 0, kEditRepeated);
  is(1, 2, 2.f, 0, kEditBanned);
  is(2, 7, 1.f, 0, 0);
  is(3, 7, 3.f, 3, kEditRepeated);
  is(4, 9, 0.f, 0, kEditBanned);

  task.position = 5;  // nothing is banned any more
  params.repetition_penalty = 1;
  params.frequency_penalty = 1;  // counts what was drawn only
  edits.clear();
  row = make_draw_row(task, 100, edits);
  CHECK_EQ(row.edit_end, 3);
  CHECK_EQ(edits[0].token, 2);
  CHECK_EQ(edits[0].flags, 0);
  CHECK_EQ(edits[2].drawn, 3);
  CHECK_EQ(edits[2].flags, 0);
}

}  // namespace
}  // namespace spotlight::gpu
