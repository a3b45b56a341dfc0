#include "engine/step.h"

#include <algorithm>

namespace spotlight {

// Which of the row's tokens need logits, and for what: its targets, and the last one when the row
// draws.
void StepPack::select(const BatchRow& row, const Sequence& sequence, int32_t first) {
  const auto count = static_cast<int32_t>(row.tokens.size());
  for (int32_t i = 0; i < count; i++) {
    const bool last = i + 1 == count;
    LogitsTask task;
    if (row.prompt_logprobs) {
      task.target = last ? row.next_token : row.tokens[static_cast<size_t>(i) + 1];
      task.target_top = row.top_prompt_logprobs;
    }
    if (last && row.sample) {
      task.params = &sequence.sampling;
      task.seat = sequence.seat;
      task.counts = sequence.sampling.penalises() ? &sequence.counts : nullptr;
      task.position = int64_t{row.position} + count;
    }
    if (task.target < 0 && task.params == nullptr) continue;
    selected_.push_back(first + i);
    tasks_.push_back(std::move(task));
  }
}

const StepInput& StepPack::pack(const Batch& batch,
                                const std::vector<std::shared_ptr<Sequence>>& sequences,
                                int32_t layers, int32_t kv_heads) {
  const size_t lists = static_cast<size_t>(layers) * kv_heads;
  kv_heads_ = kv_heads;
  tokens_.clear();
  positions_.clear();
  feeds_.clear();
  selected_.clear();
  rows_.clear();
  tasks_.clear();
  traces_.assign(batch.rows.size(), {});
  probes_.assign(batch.rows.size(), {});
  for (size_t i = 0; i < batch.rows.size(); i++) {
    const BatchRow& row = batch.rows[i];
    const Sequence& sequence = *sequences[i];
    RowView view;
    view.block_table = sequence.block_table.data();
    view.blocks = static_cast<int32_t>(sequence.block_table.size());
    view.seat = sequence.seat;
    view.seated = sequence.seated;
    view.first = static_cast<int32_t>(tokens_.size());
    view.tokens = static_cast<int32_t>(row.tokens.size());
    view.position = row.position;
    view.generated = row.generated;
    view.plane = sequence.slot;
    view.policies = sequence.policies.data();
    if (row.quality) {
      probes_[i] = {row.quality_layer, row.quality_kv_head, {}};
      probes_[i].results.resize(lists);
      view.quality = &probes_[i];
    }
    if (row.trace || row.quality) {
      traces_[i].resize(lists);
      view.trace = traces_[i].data();
    }
    select(row, sequence, view.first);
    for (int32_t t = 0; t < view.tokens; t++) {
      const int32_t token = row.tokens[static_cast<size_t>(t)];
      // A corrupted row drew nothing; what it feeds on does not matter any more, but must be a
      // token.
      tokens_.push_back(token == kLastSample ? std::max(sequence.last_token, 0) : token);
      positions_.push_back(row.position + t);
      feeds_.push_back(token == kLastSample ? sequence.seat : -1);
    }
    rows_.push_back(view);
  }
  input_.tokens = tokens_.data();
  input_.positions = positions_.data();
  input_.feeds = feeds_.data();
  input_.count = static_cast<int32_t>(tokens_.size());
  input_.rows = rows_.data();
  input_.row_count = static_cast<int32_t>(rows_.size());
  input_.selected = selected_.data();
  input_.selected_count = static_cast<int32_t>(selected_.size());
  input_.tasks = tasks_.data();
  return input_;
}

std::vector<LayerQuality> StepPack::qualities(const QualityProbe& probe) const {
  std::vector<LayerQuality> all;
  for (size_t i = 0; i < probe.results.size(); i++) {
    const auto layer = static_cast<int32_t>(i) / kv_heads_;
    const auto head = static_cast<int32_t>(i) % kv_heads_;
    if (probe.wants(layer, head)) all.push_back({layer, head, probe.results[i]});
  }
  return all;
}

std::vector<RowResult> StepPack::results(const Batch& batch,
                                         const std::vector<std::shared_ptr<Sequence>>& sequences) {
  std::vector<RowResult> results(batch.rows.size());
  size_t task = 0;
  for (size_t i = 0; i < batch.rows.size(); i++) {
    const BatchRow& row = batch.rows[i];
    Sequence& sequence = *sequences[i];
    RowResult& result = results[i];
    result.sequence = row.sequence;
    result.has_prompt_logprobs = row.prompt_logprobs;
    if (row.trace) result.trace = std::move(traces_[i]);
    if (row.quality) result.quality = qualities(probes_[i]);
    const int32_t end = rows_[i].first + rows_[i].tokens;
    for (; task < selected_.size() && selected_[task] < end; task++) {
      LogitsTask& done = tasks_[task];
      result.corrupted = result.corrupted || !done.finite;
      if (done.target >= 0) result.prompt_logprobs.push_back(std::move(done.target_logprobs));
      if (done.params == nullptr) continue;
      result.token = done.token;
      sequence.last_token = done.token;
      if (done.token < 0) continue;
      if (sequence.sampling.penalises()) sequence.counts.drawn[done.token]++;
      if (sequence.sampling.logprobs >= 0) result.logprobs = std::move(done.logprobs);
    }
  }
  return results;
}

}  // namespace spotlight
