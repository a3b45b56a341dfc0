// What is recorded of the forward pass and where it puts values: no value may lie where another is
// still needed, and sums must have become part of the norms behind them. Needs no GPU.
#include "device/cuda/tape.h"

#include <algorithm>
#include <map>

#include "device/cuda/block_tables.h"
#include "device/cuda/step_shape.h"
#include "test/check.h"

namespace spotlight {
namespace {

// The shape of transformer.cc's forward pass.
struct Pass final : Program {
  ModelConfig config;
  void record(Recorder& r) const override {
    int32_t id = 0;
    const auto weight = [&id](int64_t rows, int64_t cols) { return Weight{id++, rows, cols}; };
    const int64_t hidden = config.hidden, qkv = config.query_width() + 2 * config.kv_width();
    Value x = r.embed(weight(config.vocab, hidden));
    for (int32_t l = 0; l < config.layers; l++) {
      const Value all = r.matmul(r.rms_norm(x, weight(1, hidden)), weight(qkv, hidden), {});
      const Value q =
          r.head_norm(r.columns(all, 0, config.query_width()), weight(1, config.head_dim));
      const Value k = r.columns(all, config.query_width(), config.kv_width());
      const Value v = r.columns(all, config.query_width() + config.kv_width(), config.kv_width());
      Value attended = r.attend(l, q, k, v);
      if (l + 1 == config.layers) {
        if (r.selected() == 0) return;
        attended = r.select(attended);
        x = r.select(x);
      }
      x = r.add(x, r.matmul(attended, weight(hidden, config.query_width()), {}));
      const Value both =
          r.matmul(r.rms_norm(x, weight(1, hidden)), weight(2 * config.intermediate, hidden), {});
      const Value act = r.silu_mul(r.columns(both, 0, config.intermediate),
                                   r.columns(both, config.intermediate, config.intermediate));
      x = r.add(x, r.matmul(act, weight(hidden, config.intermediate), {}));
    }
    r.logits(r.rms_norm(x, weight(1, hidden)), weight(config.vocab, hidden));
  }
};

Pass pass(int32_t layers) {
  Pass program;
  program.config.layers = layers;
  program.config.hidden = 48;
  program.config.intermediate = 120;
  program.config.query_heads = 6;
  program.config.kv_heads = 2;
  program.config.head_dim = 16;
  program.config.vocab = 100;
  return program;
}

int count(const Tape& tape, OpKind kind) {
  return static_cast<int>(std::count_if(tape.ops().begin(), tape.ops().end(),
                                        [kind](const TapeOp& op) { return op.kind == kind; }));
}

TEST(sums_become_part_of_the_norms_behind_them) {
  const Pass program = pass(3);
  const Tape tape(program, program.config, 10, Selection::kAll);
  CHECK_EQ(count(tape, OpKind::kAdd), 0);
  CHECK_EQ(count(tape, OpKind::kAddRmsNorm), 6);
  CHECK_EQ(count(tape, OpKind::kRmsNorm), 1);
  CHECK_EQ(count(tape, OpKind::kSelect), 0);
  const Tape some(program, program.config, 10, Selection::kSome);
  CHECK_EQ(count(some, OpKind::kSelect), 2);
  CHECK(some.value(some.ops().back().in[0]).selected);
  const Tape none(program, program.config, 10, Selection::kNone);
  CHECK(none.ops().back().kind == OpKind::kAttend);
}

// Plays the tape on buffers that remember who wrote each place last: every op must find the values
// it reads as they were left.
TEST(no_value_is_overwritten_before_its_last_reader) {
  for (const Selection selection : {Selection::kNone, Selection::kSome, Selection::kAll}) {
    const Pass program = pass(4);
    const int64_t rows = 7;
    const Tape tape(program, program.config, rows, selection);
    std::vector<int32_t> owner(static_cast<size_t>(tape.arena()), -1);
    const auto place = [&](int32_t value, const auto& visit) {
      const TapeValue& v = tape.value(value);
      const TapeBuffer& buffer = tape.buffer(v.buffer);
      for (int64_t r = 0; r < rows; r++)
        for (int64_t c = 0; c < v.columns; c++)
          visit(owner.at(static_cast<size_t>(buffer.offset + r * buffer.columns + v.column + c)),
                v.buffer);
    };
    for (const TapeOp& op : tape.ops()) {
      for (const int32_t in : op.in)
        if (in >= 0) place(in, [](int32_t at, int32_t buffer) { CHECK_EQ(at, buffer); });
      if (op.out < 0) continue;
      // What is written must not be what is read, but where the op works in place.
      const bool in_place = op.kind == OpKind::kHeadNorm || op.kind == OpKind::kAddRmsNorm;
      for (const int32_t in : op.in)
        if (in >= 0 && !in_place) CHECK(tape.value(in).buffer != tape.value(op.out).buffer);
      place(op.out, [](int32_t& at, int32_t buffer) { at = buffer; });
      if (in_place) continue;
      for (const int32_t in : op.in)
        if (in >= 0) place(in, [](int32_t at, int32_t buffer) { CHECK_EQ(at, buffer); });
    }
  }
}

TEST(memory_does_not_grow_with_the_layers) {
  const Pass two = pass(2), many = pass(40);
  CHECK_EQ(Tape(two, two.config, 64, Selection::kAll).arena(),
           Tape(many, many.config, 64, Selection::kAll).arena());
}

TEST(sizes_are_few_and_never_too_small) {
  int32_t last = 0, sizes = 0;
  for (int32_t rows = 1; rows <= 512; rows++) {
    const int32_t size = padded(rows);
    CHECK(size >= rows);
    CHECK(size >= last);
    CHECK_EQ(padded(size), size);
    CHECK_EQ(padded_sizes(size).back(), size);
    if (size != last) sizes++;
    last = size;
  }
  CHECK_EQ(sizes, 17);
}

TEST(a_table_is_sent_once_and_then_what_it_gained) {
  BlockTables tables(4, 8);
  gpu::TableRun runs[2];
  int32_t entries[16];
  std::vector<int32_t> a = {5, 6, 7}, b = {9};
  RowView rows[2];
  const auto view = [](const std::vector<int32_t>& table, int32_t seat, bool seated) {
    RowView row;
    row.block_table = table.data();
    row.blocks = static_cast<int32_t>(table.size());
    row.seat = seat;
    row.seated = seated;
    return row;
  };
  rows[0] = view(a, 2, false);
  rows[1] = view(b, 0, false);
  auto update = tables.collect(rows, 2, runs, entries);
  CHECK_EQ(update.runs, 2);
  CHECK_EQ(update.entries, 4);
  CHECK_EQ(update.longest, 3);
  CHECK_EQ(entries[runs[1].offset], 9);
  b.push_back(10);
  rows[0] = view(a, 2, true);
  rows[1] = view(b, 0, true);
  update = tables.collect(rows, 2, runs, entries);
  CHECK_EQ(update.runs, 1);
  CHECK_EQ(runs[0].seat, 0);
  CHECK_EQ(runs[0].from, 1);
  CHECK_EQ(entries[runs[0].offset], 10);
  // Another sequence takes seat 2.
  rows[0] = view(b, 2, false);
  update = tables.collect(rows, 1, runs, entries);
  CHECK_EQ(runs[0].from, 0);
  CHECK_EQ(runs[0].count, 2);
  rows[0].blocks = 9;
  CHECK_THROWS(tables.collect(rows, 1, runs, entries), "INTERNAL", "9 blocks");
}

}  // namespace
}  // namespace spotlight
