#include "sampling/gpu/draw_rows.h"

#include <algorithm>
#include <cmath>

namespace spotlight::gpu {
namespace {

// Unique tokens of one kind in any order -> edits; merged below.
void append_counts(const SamplingParams& params, const TokenCounts& counts,
                   std::vector<LogitEdit>& edits) {
  const int32_t repeated = params.repetition_penalty != 1 ? kEditRepeated : 0;
  for (const auto& [token, count] : counts.drawn) edits.push_back({token, 0.f, count, repeated});
  if (repeated == 0) return;
  for (const auto& entry : counts.prompt)
    if (counts.drawn.count(entry.first) == 0) edits.push_back({entry.first, 0.f, 0, repeated});
}

}  // namespace

DrawRow make_draw_row(const LogitsTask& task, int32_t vocab, std::vector<LogitEdit>& edits) {
  DrawRow row;
  row.edit_begin = row.edit_end = static_cast<int32_t>(edits.size());
  if (task.params == nullptr) return row;
  const SamplingParams& params = *task.params;
  row.seed = params.seed;
  row.choice = params.choice;
  row.position = task.position;
  row.seat = task.seat;
  row.greedy = params.temperature <= 0;
  row.inverse = row.greedy || params.temperature == 1 ? 1.f : 1.f / params.temperature;
  row.has_min_p = params.min_p > 0;
  row.log_min_p = row.has_min_p ? std::log(std::min(params.min_p, 1.f)) : 0.f;
  row.top_k = params.top_k > 0 && params.top_k < vocab ? params.top_k : 0;
  row.top_p = params.top_p;
  row.repetition = params.repetition_penalty;
  row.frequency = params.frequency_penalty;
  row.presence = params.presence_penalty;

  for (const auto& [token, bias] : params.logit_bias) edits.push_back({token, bias, 0, 0});
  if (task.position < params.banned_until)
    for (const int32_t token : params.banned) edits.push_back({token, 0.f, 0, kEditBanned});
  if (task.counts != nullptr && params.penalises()) append_counts(params, *task.counts, edits);

  // What is not a bias comes last and moves into the last bias of its token.
  const auto begin = edits.begin() + row.edit_begin;
  std::stable_sort(begin, edits.end(),
                   [](const LogitEdit& a, const LogitEdit& b) { return a.token < b.token; });
  auto end = begin;
  for (auto edit = begin; edit != edits.end(); ++edit) {
    const bool only_bias = edit->flags == 0 && edit->drawn == 0;
    if (end != begin && (end - 1)->token == edit->token && !only_bias) {
      (end - 1)->drawn += edit->drawn;
      (end - 1)->flags |= edit->flags;
    } else {
      *end++ = *edit;
    }
  }
  edits.erase(end, edits.end());
  row.edit_end = static_cast<int32_t>(edits.size());
  return row;
}

}  // namespace spotlight::gpu
