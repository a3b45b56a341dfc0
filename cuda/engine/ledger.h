// What the engine promises about submitted work: the open sequences and what each will hold once
// every submitted step has run. A batch is checked as a whole before anything changes, so a refused
// one leaves no trace. Lives on the caller's thread.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <unordered_map>
#include <vector>

#include "engine/batch.h"
#include "engine/options.h"
#include "engine/sequence.h"

namespace spotlight {

struct LedgerLimits {
  int32_t vocab = 0, blocks = 0, max_model_len = 0, max_batch_tokens = 0, max_sequences = 0;
  int32_t layers = 0, kv_heads = 0;
  bool selectors = false;
};

class Ledger {
 public:
  explicit Ledger(const LedgerLimits& limits);

  // Throws INVALID_ARGUMENT naming the field.
  int32_t open(const SequenceOptions& options, const AttentionSettings& settings);
  // Checks the batch and enters it; returns the sequence of each row. Throws INVALID_ARGUMENT and
  // has changed nothing then.
  std::vector<std::shared_ptr<Sequence>> enter(const Batch& batch);
  int32_t open_sequences() const { return static_cast<int32_t>(sequences_.size()); }
  int32_t pinned(int32_t slot) const { return pinned_[static_cast<size_t>(slot)]; }

 private:
  void check(const Batch& batch) const;
  void check_row(const BatchRow& row, const std::string& name) const;
  void check_block(int32_t block, const std::string& name) const;
  void check_token(int32_t token, const std::string& name) const;

  LedgerLimits limits_;
  std::unordered_map<int32_t, std::shared_ptr<Sequence>> sequences_;
  std::array<int32_t, kPlanes> pinned_ = {};
  std::vector<int32_t> free_seats_;
  int32_t last_id_ = 0;
};

}  // namespace spotlight
