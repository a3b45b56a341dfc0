// A small engine around one layer for attention tests: arenas, sequences with shuffled block
// tables, a team of real threads.
#pragma once

#include <algorithm>
#include <functional>
#include <memory>
#include <numeric>
#include <random>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "attention/backend.h"
#include "attention/counters.h"
#include "attention/half.h"
#include "attention/reference.h"

namespace spotlight {

inline std::vector<std::string> available_isas() {
  std::vector<std::string> names;
  for (const char* name : {"portable", "avx2", "avx512"}) {
    try {
      select_isa(name);
      names.push_back(name);
    } catch (const std::exception&) {  // this CPU lacks it
    }
  }
  select_isa("auto");
  return names;
}

struct Shape {
  int32_t layers = 1, kv_heads = 2, group = 3, head_dim = 64, blocks = 16, code_words = 4;
  int32_t query_heads() const { return kv_heads * group; }
};

class TestWorld {
 public:
  explicit TestWorld(const Shape& shape, uint32_t seed = 1) : shape(shape), random(seed) {
    const size_t heads = static_cast<size_t>(shape.layers) * shape.blocks * shape.kv_heads;
    for (auto* memory : {&k, &v})
      memory->assign(heads * kBlockSize * shape.head_dim, 0x7e00);  // NaN: unwritten
    for (auto* memory : {&mean_k, &mean_v}) memory->assign(heads * shape.head_dim, 0x7e00);
    for (auto& plane : codes) plane.assign(heads * kBlockSize * shape.code_words, 0xdeadbeef);
    arena = {shape.layers,     shape.blocks,
             shape.kv_heads,   shape.head_dim,
             shape.code_words, k.data(),
             v.data(),         mean_k.data(),
             mean_v.data(),    {codes[0].data(), codes[1].data()}};
    context.arena = &arena;
    context.query_heads = shape.query_heads();
    context.counters = &counters;
    free_blocks.resize(shape.blocks);
    std::iota(free_blocks.begin(), free_blocks.end(), 0);
    std::shuffle(free_blocks.begin(), free_blocks.end(), random);
  }

  std::vector<float> normal(size_t count, float scale = 1.0f) {
    std::normal_distribution<float> distribution(0.0f, scale);
    std::vector<float> values(count);
    for (float& x : values) x = distribution(random);
    return values;
  }

  std::vector<int32_t> take_blocks(int32_t tokens) {
    std::vector<int32_t> table;
    for (int32_t i = 0; i * kBlockSize < tokens; i++) {
      table.push_back(free_blocks.back());
      free_blocks.pop_back();
    }
    return table;
  }

  Artifact artifact(const std::string& encoder, int32_t bits, int32_t hidden = 0,
                    bool bf16 = true) {
    Artifact made;
    made.encoder = encoder;
    made.bits = bits;
    made.head_dim = shape.head_dim;
    made.query_heads = shape.query_heads();
    made.kv_heads = shape.kv_heads;
    made.hidden = hidden;
    const auto weights = [&](size_t count, int32_t width) {
      std::vector<float> values = normal(count, 1.0f / std::sqrt(static_cast<float>(width)));
      for (float& x : values) {
        uint32_t word;
        std::memcpy(&word, &x, sizeof word);
        if (bf16) word &= 0xffff0000u;
        std::memcpy(&x, &word, sizeof word);
      }
      return values;
    };
    for (int32_t layer = 0; layer < shape.layers; layer++) {
      LayerCode code;
      const size_t heads = shape.query_heads(), dim = shape.head_dim;
      if (encoder == "mlp") {
        code.w1 = weights(heads * dim * hidden, dim);
        code.b1 = weights(heads * hidden, 16);
        code.w2 = weights(heads * hidden * bits, hidden);
        code.b2 = weights(heads * bits, 16);
      } else {
        code.key = weights(shape.kv_heads * dim * bits, dim);
        code.query = weights(heads * dim * bits, dim);
      }
      made.layers.push_back(std::move(code));
    }
    return made;
  }

  // Runs append and attend of one layer with `threads` threads.
  void step(Backend& backend, const LayerIo& io, const std::vector<RowView>& rows, int32_t threads,
            int32_t max_context) {
    int32_t tokens = 0;
    for (const RowView& row : rows) tokens += row.tokens;
    const size_t own = backend.thread_scratch(context, max_context);
    const size_t together = backend.team_scratch(context, tokens, max_context);
    in_team(threads, own, together, [&](Team& team) {
      backend.append(context, io, rows.data(), static_cast<int32_t>(rows.size()), team);
      backend.attend(context, io, rows.data(), static_cast<int32_t>(rows.size()), team);
    });
  }

  // Scratch is filled with a pattern: no code may rely on what it holds, nor write past it.
  static void in_team(int32_t threads, size_t own_bytes, size_t shared_bytes,
                      const std::function<void(Team&)>& body) {
    constexpr size_t kGuard = 64;
    SpinBarrier barrier;
    std::atomic<int32_t> ticket{12345};
    struct alignas(64) Line {
      std::byte bytes[64];
    };
    const auto make = [](size_t bytes) {
      std::vector<Line> lines((bytes + kGuard + 63) / 64 + 1);
      std::memset(lines.data(), 0xa5, lines.size() * sizeof(Line));
      return lines;
    };
    const auto check_guard = [](const std::vector<Line>& lines, size_t bytes) {
      const auto* at = reinterpret_cast<const unsigned char*>(lines.data());
      for (size_t i = bytes; i < lines.size() * sizeof(Line); i++)
        if (at[i] != 0xa5) throw std::runtime_error("scratch overrun");
    };
    std::vector<Line> shared = make(shared_bytes);
    std::vector<std::vector<Line>> own;
    for (int32_t i = 0; i < threads; i++) own.push_back(make(own_bytes));
    std::vector<std::thread> workers;
    const auto run = [&](int32_t i) {
      Team team{i, threads, &barrier, own[i].data()->bytes, shared.data()->bytes, &ticket};
      body(team);
    };
    for (int32_t i = 1; i < threads; i++) workers.emplace_back(run, i);
    run(0);
    for (std::thread& worker : workers) worker.join();
    check_guard(shared, shared_bytes);
    for (const auto& lines : own) check_guard(lines, own_bytes);
  }

  Shape shape;
  std::mt19937 random;
  std::vector<half_bits> k, v, mean_k, mean_v;
  std::vector<uint32_t> codes[kPlanes];
  KvArena arena;
  AttentionContext context;
  AttentionCounters counters;
  std::vector<int32_t> free_blocks;
};

// One sequence's tokens of one layer: q, k, v as the projections gave them, and the cache as it
// will be stored.
struct TestSequence {
  TestSequence(TestWorld& world, int32_t tokens)
      : tokens(tokens), table(world.take_blocks(tokens)) {
    const Shape& shape = world.shape;
    q = world.normal(static_cast<size_t>(tokens) * shape.query_heads() * shape.head_dim);
    k = world.normal(static_cast<size_t>(tokens) * shape.kv_heads * shape.head_dim);
    v = world.normal(static_cast<size_t>(tokens) * shape.kv_heads * shape.head_dim);
    // Keys with a common direction a block, so that summaries and codes have something to find.
    for (int32_t t = 0; t < tokens; t++)
      for (int32_t j = 0; j < shape.kv_heads * shape.head_dim; j++)
        k[static_cast<size_t>(t) * shape.kv_heads * shape.head_dim + j] +=
            std::sin(0.7f * static_cast<float>(t / 40) + 0.3f * static_cast<float>(j));
    cache = {tokens, shape.kv_heads, shape.query_heads(), shape.head_dim, k, v};
    for (auto* values : {&cache.k, &cache.v})
      for (float& x : *values) x = half_to_float(float_to_half(x));
  }
  const float* query(int32_t t) const {
    return q.data() + static_cast<size_t>(t) * cache.query_heads * cache.head_dim;
  }

  int32_t tokens;
  std::vector<int32_t> table;
  std::vector<float> q, k, v;
  ReferenceCache cache;
};

// The packed inputs and outputs of a step whose rows are spans of sequences.
class TestStep {
 public:
  TestStep(const TestWorld& world, int32_t layer) : world_(world), layer_(layer) {}

  void add(const TestSequence& sequence, int32_t position, int32_t tokens, bool generated,
           const std::vector<LayerPolicy>& policies, int32_t plane = 0, bool trace = false) {
    RowView row;
    row.block_table = sequence.table.data();
    row.first = count_;
    row.tokens = tokens;
    row.position = position;
    row.generated = generated;
    row.plane = plane;
    row.policies = policies.data();
    traces_.emplace_back(trace ? world_.shape.layers * world_.shape.kv_heads : 0);
    rows.push_back(row);
    const auto append = [&](std::vector<float>& to, const std::vector<float>& from, int64_t width) {
      to.insert(to.end(), from.begin() + position * width,
                from.begin() + (position + tokens) * width);
    };
    append(q_, sequence.q, q_width());
    append(k_, sequence.k, kv_width());
    append(v_, sequence.v, kv_width());
    count_ += tokens;
  }

  // Fills out and traces.
  void run(TestWorld& world, Backend& backend, int32_t threads) {
    int32_t max_context = 0;
    for (size_t i = 0; i < rows.size(); i++) {
      rows[i].trace = traces_[i].empty() ? nullptr : traces_[i].data();
      max_context = std::max(max_context, rows[i].position + rows[i].tokens);
    }
    out.assign(q_.size(), -777.0f);
    LayerIo io;
    io.layer = layer_;
    io.q = q_.data();
    io.k = k_.data();
    io.v = v_.data();
    io.out = out.data();
    io.q_stride = io.out_stride = q_width();
    io.k_stride = io.v_stride = kv_width();
    world.step(backend, io, rows, threads, max_context);
  }

  std::vector<float> output(size_t row, int32_t token) const {
    const auto at = out.begin() + (rows[row].first + token) * q_width();
    return {at, at + q_width()};
  }
  const std::vector<int32_t>& trace(size_t row, int32_t head) const {
    return traces_[row][layer_ * world_.shape.kv_heads + head];
  }

  std::vector<RowView> rows;
  std::vector<float> out;

 private:
  int64_t q_width() const { return world_.shape.query_heads() * world_.shape.head_dim; }
  int64_t kv_width() const { return world_.shape.kv_heads * world_.shape.head_dim; }
  const TestWorld& world_;
  int32_t layer_, count_ = 0;
  std::vector<float> q_, k_, v_;
  std::vector<std::vector<std::vector<int32_t>>> traces_;
};

}  // namespace spotlight
