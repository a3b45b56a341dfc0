// The model's step written down: the ops in order and where each value lies in one arena. Recorded
// once a program (with and without logits), for the largest step: addresses then depend on no shape
// and every captured graph shares them. Memory of a value is reused from its last reader on, so
// that a step's activations do not pile up over the layers. Knows no CUDA.
#pragma once

#include <cstdint>
#include <vector>

#include "device/device.h"

namespace spotlight {

enum class OpKind : uint8_t {
  kEmbed,
  kRmsNorm,
  kAddRmsNorm,  // in[0] += in[1]; out = rms_norm(in[0]), where in[1] lay
  kHeadNorm,    // in place
  kMatmul,
  kSiluMul,
  kAdd,
  kAttend,
  kSelect,
  kLogits,
};

struct TapeOp {
  OpKind kind;
  Weight weight, bias;
  int32_t layer = 0;
  int32_t in[3] = {-1, -1, -1};  // values
  int32_t out = -1;
};

// Columns [column, column + columns) of every row of a buffer.
struct TapeValue {
  int32_t buffer = -1;
  int64_t column = 0, columns = 0;
  bool selected = false;  // rows are selected tokens, not all tokens
};

struct TapeBuffer {
  int64_t columns = 0;
  int64_t offset = -1;  // in the arena, in values of 16 bits
};

// Which tokens of a step need logits. kAll: rows of logits are the tokens, and select does nothing.
enum class Selection : uint8_t { kNone, kSome, kAll };

class Tape final : public Recorder {
 public:
  // rows: of the largest step, padding included.
  Tape(const Program& program, const ModelConfig& config, int64_t rows, Selection selection);

  const std::vector<TapeOp>& ops() const { return ops_; }
  const TapeValue& value(int32_t id) const { return values_[static_cast<size_t>(id)]; }
  const TapeBuffer& buffer(int32_t id) const { return buffers_[static_cast<size_t>(id)]; }
  int64_t arena() const { return arena_; }  // values of 16 bits

  Value embed(Weight table) override;
  Value rms_norm(Value x, Weight gain) override;
  Value head_norm(Value x, Weight gain) override;
  Value matmul(Value x, Weight weight, Weight bias) override;
  Value columns(Value x, int64_t from, int64_t count) override;
  Value silu_mul(Value gate, Value up) override;
  Value add(Value a, Value b) override;
  Value attend(int32_t layer, Value q, Value k, Value v) override;
  Value select(Value x) override;
  int32_t selected() const override { return selection_ == Selection::kNone ? 0 : 1; }
  void logits(Value x, Weight head) override;

 private:
  int32_t make(int64_t columns, bool selected);  // a value in a buffer of its own
  Value push(TapeOp op);
  void fuse();
  void place(int64_t rows);

  ModelConfig config_;
  Selection selection_;
  std::vector<TapeOp> ops_;
  std::vector<TapeValue> values_;
  std::vector<TapeBuffer> buffers_;
  int64_t arena_ = 0;
};

}  // namespace spotlight
