#include "engine/batch.h"

#include "error.h"

namespace spotlight {
namespace {

class Reader {
 public:
  Reader(const int32_t* at, size_t size) : at_(at), end_(at + size) {}
  int32_t next() {
    if (at_ == end_) throw Error(kInternal, "packed batch ends early");
    return *at_++;
  }
  std::vector<int32_t> take(int32_t count) {
    if (count < 0 || end_ - at_ < count) throw Error(kInternal, "packed batch ends early");
    at_ += count;
    return {at_ - count, at_};
  }
  bool done() const { return at_ == end_; }
  ptrdiff_t left() const { return end_ - at_; }

 private:
  const int32_t* at_;
  const int32_t* end_;
};

void pack_logprobs(const TokenLogprobs& logprobs, PackedResult& packed) {
  packed.ints.push_back(logprobs.token);
  packed.ints.push_back(static_cast<int32_t>(logprobs.top_tokens.size()));
  packed.ints.insert(packed.ints.end(), logprobs.top_tokens.begin(), logprobs.top_tokens.end());
  packed.floats.push_back(logprobs.logprob);
  packed.floats.insert(packed.floats.end(), logprobs.top_logprobs.begin(),
                       logprobs.top_logprobs.end());
}

}  // namespace

Batch unpack_batch(const int32_t* packed, size_t size) {
  Reader reader(packed, size);
  const int32_t rows = reader.next(), copies = reader.next(), closes = reader.next();
  if (rows < 0 || copies < 0 || closes < 0 || rows > reader.left())
    throw Error(kInternal, "packed batch ends early");
  Batch batch;
  batch.rows.resize(static_cast<size_t>(rows));
  for (BatchRow& row : batch.rows) {
    row.sequence = reader.next();
    row.position = reader.next();
    const int32_t flags = reader.next();
    const int32_t tokens = reader.next(), appended = reader.next();
    row.top_prompt_logprobs = reader.next();
    row.next_token = reader.next();
    row.generated = (flags & kRowGenerated) != 0;
    row.sample = (flags & kRowSample) != 0;
    row.prompt_logprobs = (flags & kRowPromptLogprobs) != 0;
    row.trace = (flags & kRowTrace) != 0;
    row.quality = (flags & kRowQuality) != 0;
    if (row.quality) {
      row.quality_layer = reader.next();
      row.quality_kv_head = reader.next();
    }
    row.tokens = reader.take(tokens);
    row.append_blocks = reader.take(appended);
  }
  for (int32_t i = 0; i < copies; i++) {
    const int32_t from = reader.next();
    batch.copies.emplace_back(from, reader.next());
  }
  batch.close = reader.take(closes);
  if (!reader.done()) throw Error(kInternal, "packed batch is longer than it says");
  return batch;
}

PackedResult pack_result(const StepResult& result) {
  PackedResult packed;
  packed.ints.reserve(result.rows.size() * 3);
  for (const RowResult& row : result.rows) {
    packed.ints.push_back(row.sequence);
    packed.ints.push_back(row.token);
    packed.ints.push_back((row.logprobs ? kResultLogprobs : 0) |
                          (row.has_prompt_logprobs ? kResultPromptLogprobs : 0) |
                          (row.trace.empty() ? 0 : kResultTrace) |
                          (row.corrupted ? kResultCorrupted : 0) |
                          (row.quality.empty() ? 0 : kResultQuality));
    if (row.logprobs) pack_logprobs(*row.logprobs, packed);
    if (row.has_prompt_logprobs) {
      packed.ints.push_back(static_cast<int32_t>(row.prompt_logprobs.size()));
      for (const TokenLogprobs& logprobs : row.prompt_logprobs) pack_logprobs(logprobs, packed);
    }
    for (const std::vector<int32_t>& positions : row.trace) {
      packed.ints.push_back(static_cast<int32_t>(positions.size()));
      packed.ints.insert(packed.ints.end(), positions.begin(), positions.end());
    }
    if (row.quality.empty()) continue;
    packed.ints.push_back(static_cast<int32_t>(row.quality.size()));
    for (const LayerQuality& one : row.quality) {
      packed.ints.insert(packed.ints.end(), {one.layer, one.kv_head});
      packed.floats.insert(packed.floats.end(),
                           {one.quality.iou, one.quality.kept_mass, one.quality.best_mass});
    }
  }
  return packed;
}

}  // namespace spotlight
