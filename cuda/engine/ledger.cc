#include "engine/ledger.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <unordered_set>

#include "engine/policy.h"
#include "error.h"

namespace spotlight {
namespace {

constexpr int32_t kMaxLogprobs = 256;

[[noreturn]] void refuse(const std::string& message) { throw Error(kInvalidArgument, message); }
std::string text(int64_t value) { return std::to_string(value); }
int32_t blocks_for(int64_t tokens) {
  return static_cast<int32_t>((tokens + kBlockSize - 1) / kBlockSize);
}

void check_range(double value, double low, double high, const char* field) {
  if (!(value >= low && value <= high)) {
    refuse(std::string("sampling.") + field + ": " + std::to_string(value) + ", must be in [" +
           std::to_string(low) + ", " + std::to_string(high) + "]");
  }
}

void check_sampling(const SamplingParams& params) {
  check_range(params.temperature, 0, 1e6, "temperature");
  check_range(params.top_p, 0, 1, "topP");
  check_range(params.min_p, 0, 1, "minP");
  check_range(params.presence_penalty, -100, 100, "presencePenalty");
  check_range(params.frequency_penalty, -100, 100, "frequencyPenalty");
  check_range(params.repetition_penalty, 1e-3, 1e3, "repetitionPenalty");
  check_range(params.logprobs, -1, kMaxLogprobs, "logprobs");
  for (const auto& [token, bias] : params.logit_bias) {
    if (!std::isfinite(bias)) refuse("sampling.logitBias[" + text(token) + "]: must be finite");
  }
}

}  // namespace

Ledger::Ledger(const LedgerLimits& limits) : limits_(limits) {
  for (int32_t seat = limits.max_sequences; seat-- > 0;) free_seats_.push_back(seat);
}

void Ledger::check_block(int32_t block, const std::string& name) const {
  if (block < 0 || block >= limits_.blocks)
    refuse(name + ": block " + text(block) + ", the pool has 0 to " + text(limits_.blocks - 1));
}

void Ledger::check_token(int32_t token, const std::string& name) const {
  if (token < 0 || token >= limits_.vocab)
    refuse(name + ": token " + text(token) + ", the vocabulary has 0 to " +
           text(limits_.vocab - 1));
}

int32_t Ledger::open(const SequenceOptions& options, const AttentionSettings& settings) {
  if (open_sequences() >= limits_.max_sequences)
    refuse("openSequence: " + text(limits_.max_sequences) +
           " sequences are open, the engine's most");
  if (options.slot < 0 || options.slot >= kPlanes)
    refuse("slot: " + text(options.slot) + ", must be 0 or 1");
  check_sampling(options.sampling);
  validate(options.attention, settings, limits_.layers, limits_.selectors);
  for (const auto& entry : options.sampling.logit_bias)
    check_token(entry.first, "sampling.logitBias");
  for (const int32_t token : options.sampling.banned) check_token(token, "sampling.banned");
  for (const int32_t token : options.prompt_tokens) check_token(token, "promptTokens");
  for (const int32_t token : options.generated_tokens) check_token(token, "generatedTokens");
  for (const int32_t block : options.blocks) check_block(block, "blocks");

  auto sequence = std::make_shared<Sequence>();
  do {
    last_id_ = last_id_ == INT32_MAX ? 1 : last_id_ + 1;
  } while (sequences_.count(last_id_) > 0);
  sequence->id = last_id_;
  sequence->sampling = options.sampling;
  sequence->attention = options.attention;
  sequence->slot = options.slot;
  sequence->seat = free_seats_.back();
  free_seats_.pop_back();
  sequence->planned_blocks = static_cast<int32_t>(options.blocks.size());
  sequence->block_table = options.blocks;
  sequence->given_blocks = options.blocks.size();
  if (options.sampling.penalises()) {
    for (const int32_t token : options.prompt_tokens) sequence->counts.prompt[token]++;
    for (const int32_t token : options.generated_tokens) sequence->counts.drawn[token]++;
  }
  sequences_.emplace(sequence->id, sequence);
  pinned_[static_cast<size_t>(options.slot)]++;
  return sequence->id;
}

void Ledger::check_row(const BatchRow& row, const std::string& name) const {
  const auto found = sequences_.find(row.sequence);
  if (found == sequences_.end()) refuse(name + ".sequence: " + text(row.sequence) + " is not open");
  const Sequence& sequence = *found->second;
  if (row.tokens.empty()) refuse(name + ".tokens: must not be empty");
  const auto count = static_cast<int32_t>(row.tokens.size());
  for (int32_t i = 0; i < count; i++) {
    const int32_t token = row.tokens[static_cast<size_t>(i)];
    if (token != kLastSample) {
      check_token(token, name + ".tokens[" + text(i) + "]");
    } else if (i > 0) {
      refuse(name + ".tokens[" + text(i) + "]: the last sample can only be a row's first token");
    } else if (!sequence.will_have_sample) {
      refuse(name + ".tokens[0]: the sequence has drawn nothing yet that could be fed");
    }
  }
  if (!sequence.started) {
    if (row.position < 0 || blocks_for(row.position) != sequence.planned_blocks) {
      refuse(name + ".position: " + text(row.position) + ", the sequence opened with " +
             text(sequence.planned_blocks) + " filled blocks of " + text(kBlockSize) + " tokens");
    }
  } else if (row.position != sequence.planned_tokens) {
    refuse(name + ".position: " + text(row.position) + ", the sequence holds " +
           text(sequence.planned_tokens) + " tokens");
  }
  const int64_t end = int64_t{row.position} + count;
  if (end > limits_.max_model_len)
    refuse(name + ".tokens: end at " + text(end) + ", the model's limit is " +
           text(limits_.max_model_len));
  for (const int32_t block : row.append_blocks) check_block(block, name + ".appendBlocks");
  const int64_t table = sequence.planned_blocks + static_cast<int64_t>(row.append_blocks.size());
  if (blocks_for(end) > table) {
    refuse(name + ".appendBlocks: " + text(end) + " tokens need " + text(blocks_for(end)) +
           " blocks, the sequence has " + text(table));
  }
  if (row.top_prompt_logprobs < 0 || row.top_prompt_logprobs > kMaxLogprobs) {
    refuse(name + ".topPromptLogprobs: " + text(row.top_prompt_logprobs) + ", must be in [0, " +
           text(kMaxLogprobs) + "]");
  }
  if (row.quality && (row.quality_layer < -1 || row.quality_layer >= limits_.layers))
    refuse(name + ".quality.layer: " + text(row.quality_layer) + ", the model has layers 0 to " +
           text(limits_.layers - 1));
  if (row.quality && (row.quality_kv_head < -1 || row.quality_kv_head >= limits_.kv_heads))
    refuse(name + ".quality.kvHead: " + text(row.quality_kv_head) +
           ", the model has KV heads 0 to " + text(limits_.kv_heads - 1));
  if (row.next_token != -1) check_token(row.next_token, name + ".nextToken");
}

void Ledger::check(const Batch& batch) const {
  if (batch.rows.empty() && batch.close.empty() && batch.copies.empty())
    refuse("rows: must not be empty when close is");
  std::unordered_set<int32_t> closed;
  for (size_t i = 0; i < batch.close.size(); i++) {
    const int32_t id = batch.close[i];
    if (sequences_.count(id) == 0)
      refuse("close[" + text(i) + "]: sequence " + text(id) + " is not open");
    if (!closed.insert(id).second)
      refuse("close[" + text(i) + "]: sequence " + text(id) + " is named twice");
  }
  for (size_t i = 0; i < batch.copies.size(); i++) {
    check_block(batch.copies[i].first, "copies[" + text(i) + "].from");
    check_block(batch.copies[i].second, "copies[" + text(i) + "].to");
  }
  if (static_cast<int64_t>(batch.rows.size()) > limits_.max_sequences) {
    refuse("rows: " + text(batch.rows.size()) + ", the engine takes " +
           text(limits_.max_sequences));
  }
  int64_t tokens = 0;
  std::unordered_set<int32_t> seen;
  for (size_t i = 0; i < batch.rows.size(); i++) {
    const BatchRow& row = batch.rows[i];
    const std::string name = "rows[" + text(i) + "]";
    if (closed.count(row.sequence) > 0)
      refuse(name + ".sequence: " + text(row.sequence) + " is closed by this batch");
    if (!seen.insert(row.sequence).second)
      refuse(name + ".sequence: " + text(row.sequence) + " has a row already");
    check_row(row, name);
    tokens += static_cast<int64_t>(row.tokens.size());
    if (tokens > limits_.max_batch_tokens) {
      refuse(name + ".tokens: the batch has more than " + text(limits_.max_batch_tokens) +
             " tokens, the engine's most");
    }
  }
}

std::vector<std::shared_ptr<Sequence>> Ledger::enter(const Batch& batch) {
  check(batch);
  for (const int32_t id : batch.close) {
    const auto found = sequences_.find(id);
    pinned_[static_cast<size_t>(found->second->slot)]--;
    free_seats_.push_back(found->second->seat);
    sequences_.erase(found);
  }
  std::vector<std::shared_ptr<Sequence>> rows;
  rows.reserve(batch.rows.size());
  for (const BatchRow& row : batch.rows) {
    std::shared_ptr<Sequence> sequence = sequences_.at(row.sequence);
    sequence->started = true;
    sequence->planned_tokens = row.position + static_cast<int32_t>(row.tokens.size());
    sequence->planned_blocks += static_cast<int32_t>(row.append_blocks.size());
    sequence->will_have_sample = sequence->will_have_sample || row.sample;
    rows.push_back(std::move(sequence));
  }
  return rows;
}

}  // namespace spotlight
