#include "device/cuda/tape.h"

#include <algorithm>

namespace spotlight {
namespace {

constexpr int64_t kAlign = 128;  // values: 256 bytes

}  // namespace

Tape::Tape(const Program& program, const ModelConfig& config, int64_t rows, Selection selection)
    : config_(config), selection_(selection) {
  program.record(*this);
  fuse();
  place(rows);
}

int32_t Tape::make(int64_t columns, bool selected) {
  buffers_.push_back({columns, -1});
  values_.push_back({static_cast<int32_t>(buffers_.size()) - 1, 0, columns, selected});
  return static_cast<int32_t>(values_.size()) - 1;
}

Value Tape::push(TapeOp op) {
  ops_.push_back(op);
  return {op.out};
}

Value Tape::embed(Weight table) {
  TapeOp op{OpKind::kEmbed, table, {}};
  op.out = make(table.cols, false);
  return push(op);
}

Value Tape::rms_norm(Value x, Weight gain) {
  TapeOp op{OpKind::kRmsNorm, gain, {}};
  op.in[0] = x.id;
  op.out = make(value(x.id).columns, value(x.id).selected);
  return push(op);
}

Value Tape::head_norm(Value x, Weight gain) {
  // In place: what goes in is read by nothing else (Q and K straight from their projection).
  TapeOp op{OpKind::kHeadNorm, gain, {}};
  op.in[0] = op.out = x.id;
  return push(op);
}

Value Tape::matmul(Value x, Weight weight, Weight bias) {
  TapeOp op{OpKind::kMatmul, weight, bias};
  op.in[0] = x.id;
  op.out = make(weight.rows, value(x.id).selected);
  return push(op);
}

Value Tape::columns(Value x, int64_t from, int64_t count) {
  TapeValue view = value(x.id);
  view.column += from;
  view.columns = count;
  values_.push_back(view);
  return {static_cast<int32_t>(values_.size()) - 1};
}

Value Tape::silu_mul(Value gate, Value up) {
  TapeOp op{OpKind::kSiluMul, {}, {}};
  op.in[0] = gate.id;
  op.in[1] = up.id;
  op.out = make(value(gate.id).columns, value(gate.id).selected);
  return push(op);
}

Value Tape::add(Value a, Value b) {
  TapeOp op{OpKind::kAdd, {}, {}};
  op.in[0] = a.id;
  op.in[1] = b.id;
  op.out = make(value(a.id).columns, value(a.id).selected);
  return push(op);
}

Value Tape::attend(int32_t layer, Value q, Value k, Value v) {
  TapeOp op{OpKind::kAttend, {}, {}};
  op.layer = layer;
  op.in[0] = q.id;
  op.in[1] = k.id;
  op.in[2] = v.id;
  op.out = make(config_.query_width(), false);
  return push(op);
}

Value Tape::select(Value x) {
  if (selection_ == Selection::kAll) return x;
  TapeOp op{OpKind::kSelect, {}, {}};
  op.in[0] = x.id;
  op.out = make(value(x.id).columns, true);
  return push(op);
}

void Tape::logits(Value x, Weight head) {
  TapeOp op{OpKind::kLogits, head, {}};
  op.in[0] = x.id;
  push(op);
}

// A sum that only the next op's norm and later sums read becomes one op in place, when nothing else
// reads what was added.
void Tape::fuse() {
  const auto whole = [&](int32_t id) {
    const TapeValue& v = value(id);
    return v.column == 0 && v.columns == buffer(v.buffer).columns;
  };
  const auto read_after = [&](int32_t id, size_t op) {
    for (size_t i = op + 1; i < ops_.size(); i++)
      for (const int32_t in : ops_[i].in)
        if (in >= 0 && value(in).buffer == value(id).buffer) return true;
    return false;
  };
  const auto move = [&](int32_t from, int32_t to) {
    for (TapeValue& v : values_)
      if (v.buffer == from) v.buffer = to;
  };
  std::vector<TapeOp> fused;
  for (size_t i = 0; i < ops_.size(); i++) {
    const TapeOp& sum = ops_[i];
    const bool fits = sum.kind == OpKind::kAdd && i + 1 < ops_.size() &&
                      ops_[i + 1].kind == OpKind::kRmsNorm && ops_[i + 1].in[0] == sum.out &&
                      whole(sum.in[0]) && whole(sum.in[1]) &&
                      value(sum.in[0]).buffer != value(sum.in[1]).buffer &&
                      !read_after(sum.in[0], i) && !read_after(sum.in[1], i);
    if (!fits) {
      fused.push_back(sum);
      continue;
    }
    TapeOp op = ops_[i + 1];
    op.kind = OpKind::kAddRmsNorm;
    op.in[0] = sum.in[0];
    op.in[1] = sum.in[1];
    move(value(sum.out).buffer, value(sum.in[0]).buffer);
    move(value(op.out).buffer, value(sum.in[1]).buffer);
    fused.push_back(op);
    i++;
  }
  ops_ = std::move(fused);
}

// First fit, in the order of the ops: a buffer lives from the op that first touches it to the one
// that last does.
void Tape::place(int64_t rows) {
  struct Life {
    size_t first = 0, last = 0;
    bool used = false;
  };
  std::vector<Life> lives(buffers_.size());
  const auto touch = [&](int32_t id, size_t op) {
    if (id < 0) return;
    Life& life = lives[static_cast<size_t>(value(id).buffer)];
    if (!life.used) life.first = op;
    life.used = true;
    life.last = op;
  };
  for (size_t i = 0; i < ops_.size(); i++) {
    for (const int32_t in : ops_[i].in) touch(in, i);
    touch(ops_[i].out, i);
  }
  std::vector<size_t> order;
  for (size_t b = 0; b < buffers_.size(); b++)
    if (lives[b].used) order.push_back(b);
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return lives[a].first < lives[b].first; });
  std::vector<size_t> placed;  // by offset
  for (const size_t b : order) {
    placed.erase(std::remove_if(placed.begin(), placed.end(),
                                [&](size_t p) { return lives[p].last < lives[b].first; }),
                 placed.end());
    const auto size = [&](size_t p) {
      return (buffers_[p].columns * rows + kAlign - 1) / kAlign * kAlign;
    };
    int64_t at = 0;
    auto before = placed.begin();
    for (; before != placed.end() && buffers_[*before].offset < at + size(b); ++before)
      at = buffers_[*before].offset + size(*before);
    buffers_[b].offset = at;
    placed.insert(before, b);
    arena_ = std::max(arena_, at + size(b));
  }
}

}  // namespace spotlight
