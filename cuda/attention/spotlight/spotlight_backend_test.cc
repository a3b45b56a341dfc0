// The whole backend against the definition: every instruction set, ragged shapes, one to four
// threads, mixed batches.
#include <sstream>

#include "attention/test_world.h"
#include "test/check.h"

namespace spotlight {
namespace {

LayerPolicy policy_of(LayerMode mode, int32_t k, int32_t sink = 4, int32_t recent = 16) {
  LayerPolicy policy;
  policy.mode = mode;
  policy.fraction = 0.001f;
  policy.min_tokens = k;
  policy.sink = sink;
  policy.recent = recent;
  return policy;
}

std::string joined(const std::vector<int32_t>& positions) {
  std::ostringstream out;
  for (const int32_t p : positions) out << p << " ";
  return out.str();
}

struct Case {
  Shape shape;
  std::string encoder;
  int32_t bits, hidden, context;
  LayerMode mode;
  int32_t k;
};

// Prefill all but one token, then decode one, traced.
void decode_case(const Case& c, bool bf16) {
  for (const std::string& isa : available_isas()) {
    select_isa(isa);
    for (int32_t threads = 1; threads <= 4; threads++) {
      TestWorld world(c.shape, 7);
      const Artifact artifact = world.artifact(c.encoder, c.bits, c.hidden, bf16);
      const auto encoder = make_encoder(artifact, c.shape.layers);
      world.context.encoders[0] = encoder.get();
      TestSequence sequence(world, c.context);
      const auto backend = make_backend("spotlight");
      const std::vector<LayerPolicy> policies(c.shape.layers, policy_of(c.mode, c.k));
      const int32_t layer = c.shape.layers - 1;
      if (c.context > 1) {
        TestStep prompt(world, layer);
        prompt.add(sequence, 0, c.context - 1, false, policies);
        prompt.run(world, *backend, threads);
      }
      TestStep decode(world, layer);
      decode.add(sequence, c.context - 1, 1, true, policies, 0, true);
      decode.run(world, *backend, threads);
      const ReferenceResult expected =
          reference_sparse(sequence.cache, artifact, layer, policies[layer],
                           sequence.query(c.context - 1), c.context - 1);
      CHECK_CLOSE(decode.output(0, 0), expected.out, 2e-5, 1e-4);
      for (int32_t h = 0; h < c.shape.kv_heads; h++)
        CHECK_EQ(joined(decode.trace(0, h)), joined(expected.selected[h]));
    }
  }
  select_isa("auto");
}

TEST(decode_matches_the_definition_for_every_group_size) {
  for (int32_t group = 1; group <= 16; group++) {
    Shape shape;
    shape.group = group;
    decode_case({shape, "linear-asym", 128, 0, 400 + group, LayerMode::kSparseTail, 60}, true);
  }
}

TEST(decode_matches_the_definition_for_every_head_dim_and_code_width) {
  for (const int32_t dim : {16, 64, 96, 128, 256})
    for (const int32_t bits : {32, 96, 128, 256}) {
      Shape shape;
      shape.head_dim = dim;
      shape.group = 2;
      shape.code_words = bits == 96 ? 4 : bits / 32;
      decode_case({shape, "linear-asym", bits, 0, 333, LayerMode::kSparseTail, 50}, bits != 96);
    }
}

TEST(decode_matches_the_definition_at_block_edges) {
  for (const int32_t context : {1, 2, 63, 64, 65, 127, 128, 129, 191, 192, 193, 640}) {
    Shape shape;
    shape.kv_heads = 3;
    decode_case({shape, "linear-asym", 128, 0, context, LayerMode::kSparseTail, 40}, true);
    decode_case({shape, "linear-asym", 128, 0, context, LayerMode::kSparse, 40}, true);
  }
}

TEST(decode_matches_the_definition_with_codes_of_every_query_head) {
  struct Widths {
    int32_t dim, hidden, bits, group;
  };
  for (const Widths w :
       {Widths{64, 128, 128, 3}, {128, 128, 128, 7}, {64, 64, 64, 2}, {64, 48, 128, 1}}) {
    Shape shape;
    shape.head_dim = w.dim;
    shape.group = w.group;
    shape.code_words = w.group * w.bits / 32;
    decode_case({shape, "mlp", w.bits, w.hidden, 300, LayerMode::kSparseTail, 50}, true);
  }
}

TEST(decode_matches_the_definition_at_long_context) {
  Shape shape;
  shape.kv_heads = 1;
  shape.blocks = 150;
  decode_case({shape, "linear-asym", 128, 0, 9000, LayerMode::kSparseTail, 256}, true);
}

// Rows of many tokens: each token with its own causal limit and block closure, the first ones
// within the budget.
TEST(sparse_rows_match_the_definition_token_by_token) {
  for (const std::string encoder_name : {"linear-asym", "mlp"}) {
    for (const std::string& isa : available_isas()) {
      select_isa(isa);
      for (const int32_t threads : {1, 3}) {
        Shape shape;
        shape.group = 2;
        shape.code_words = encoder_name == "mlp" ? 8 : 4;
        TestWorld world(shape, 11);
        const Artifact artifact = world.artifact(encoder_name, 128, 128);
        const auto encoder = make_encoder(artifact, 1);
        world.context.encoders[1] = encoder.get();
        TestSequence sequence(world, 300);
        const std::vector<LayerPolicy> policies(1, policy_of(LayerMode::kSparseTail, 48, 2, 10));
        const auto backend = make_backend("spotlight");
        for (const int32_t first : {0, 130, 131, 259}) {
          const int32_t tokens = first == 0 ? 130 : first == 130 ? 1 : first == 131 ? 128 : 41;
          TestStep step(world, 0);
          step.add(sequence, first, tokens, true, policies, 1, true);
          step.run(world, *backend, threads);
          for (int32_t t = 0; t < tokens; t++) {
            const ReferenceResult expected = reference_sparse(
                sequence.cache, artifact, 0, policies[0], sequence.query(first + t), first + t);
            CHECK_CLOSE(step.output(0, t), expected.out, 2e-5, 1e-4);
            if (t == tokens - 1)
              for (int32_t h = 0; h < shape.kv_heads; h++)
                CHECK_EQ(joined(step.trace(0, h)), joined(expected.selected[h]));
          }
        }
      }
    }
  }
  select_isa("auto");
}

// Prompt chunks, decodes of several sequences and policies, two planes with different encoders, one
// empty plane: one batch.
TEST(mixed_batches_match_the_definition) {
  for (const std::string& isa : available_isas()) {
    select_isa(isa);
    for (int32_t threads = 1; threads <= 4; threads++) {
      Shape shape;
      shape.blocks = 64;
      shape.code_words = 12;
      TestWorld world(shape, 23);
      const Artifact linear = world.artifact("linear-asym", 128),
                     paper = world.artifact("mlp", 128, 128);
      const auto first = make_encoder(linear, 1), second = make_encoder(paper, 1);
      world.context.encoders[0] = first.get();
      world.context.encoders[1] = second.get();
      const auto backend = make_backend("spotlight");
      std::vector<TestSequence> sequences;
      for (const int32_t tokens : {500, 200, 310, 96, 450, 64})
        sequences.emplace_back(world, tokens);
      const std::vector<LayerPolicy> sparse(1, policy_of(LayerMode::kSparse, 40));
      const std::vector<LayerPolicy> tail(1, policy_of(LayerMode::kSparseTail, 64));
      std::vector<LayerPolicy> late = tail, dense(1);
      late[0].crossover = 400;
      const std::vector<LayerPolicy>* policies[] = {&sparse, &tail, &late, &dense, &late, &tail};
      TestStep prompts(world, 0);
      for (const TestSequence& s : sequences) prompts.add(s, 0, s.tokens - 20, false, tail);
      prompts.run(world, *backend, threads);
      for (size_t i = 0; i < sequences.size(); i++)
        for (const int32_t t : {0, 63, sequences[i].tokens - 21}) {
          const int32_t token = std::min(t, sequences[i].tokens - 21);
          CHECK_CLOSE(prompts.output(i, token),
                      reference_dense(sequences[i].cache, sequences[i].query(token), token).out,
                      2e-5, 1e-4);
        }
      // Sequence 1 goes on with its prompt, the others decode; then all decode.
      for (int32_t step_index = 0; step_index < 20; step_index++) {
        TestStep step(world, 0);
        for (size_t i = 0; i < sequences.size(); i++) {
          const int32_t at = sequences[i].tokens - 20 + step_index;
          const bool prompt = i == 1;
          if (prompt && step_index > 0) continue;
          step.add(sequences[i], at, prompt ? 20 : 1, !prompt, *policies[i],
                   static_cast<int32_t>(i % 2), true);
        }
        step.run(world, *backend, threads);
        if (step_index % 7 != 0) continue;
        for (size_t r = 0; r < step.rows.size(); r++) {
          const size_t i = step.rows.size() == sequences.size() || r == 0 ? r : r + 1;
          const int32_t token = step.rows[r].tokens - 1, at = step.rows[r].position + token;
          const ReferenceResult expected =
              step.rows[r].generated
                  ? reference_sparse(sequences[i].cache, i % 2 ? paper : linear, 0,
                                     (*policies[i])[0], sequences[i].query(at), at)
                  : reference_dense(sequences[i].cache, sequences[i].query(at), at);
          CHECK_CLOSE(step.output(r, token), expected.out, 2e-5, 1e-4);
          for (int32_t h = 0; h < shape.kv_heads; h++)
            CHECK_EQ(joined(step.trace(r, h)), joined(expected.selected[h]));
        }
      }
    }
  }
  select_isa("auto");
}

TEST(fraction_one_equals_dense) {
  Shape shape;
  shape.kv_heads = 3;
  shape.blocks = 40;
  TestWorld world(shape, 5);
  const Artifact artifact = world.artifact("linear-asym", 128);
  const auto encoder = make_encoder(artifact, 1);
  world.context.encoders[0] = encoder.get();
  TestSequence sequence(world, 2000);
  std::vector<LayerPolicy> policies(1, policy_of(LayerMode::kSparseTail, 256));
  policies[0].fraction = 1.0f;
  const auto backend = make_backend("spotlight");
  TestStep prompt(world, 0), decode(world, 0);
  prompt.add(sequence, 0, 1999, false, policies);
  prompt.run(world, *backend, 2);
  decode.add(sequence, 1999, 1, true, policies);
  decode.run(world, *backend, 2);
  const std::vector<float> expected =
      reference_dense(sequence.cache, sequence.query(1999), 1999).out;
  double norm = 0, worst = 0;
  for (size_t i = 0; i < expected.size(); i++) {
    norm += static_cast<double>(expected[i]) * expected[i];
    worst = std::max(worst, std::fabs(static_cast<double>(decode.output(0, 0)[i]) - expected[i]));
  }
  CHECK(worst <= 1e-3 * std::sqrt(norm));
}

TEST(rehash_gives_the_bits_append_gave) {
  for (const std::string encoder_name : {"linear-asym", "mlp"}) {
    Shape shape;
    shape.layers = 2;
    shape.code_words = encoder_name == "mlp" ? 12 : 4;
    TestWorld world(shape, 3);
    const auto encoder = make_encoder(world.artifact(encoder_name, 128, 128), 2);
    world.context.encoders[0] = encoder.get();
    TestSequence sequence(world, 330);
    const std::vector<LayerPolicy> policies(2);
    const auto backend = make_backend("spotlight");
    select_isa("portable");
    for (int32_t layer = 0; layer < 2; layer++)
      for (const auto& span : {std::pair{0, 100}, {100, 1}, {101, 229}}) {
        TestStep step(world, layer);
        step.add(sequence, span.first, span.second, false, policies);
        step.run(world, *backend, 2);
      }
    world.context.encoders[1] = encoder.get();
    std::vector<int32_t> filled(sequence.table.size(), kBlockSize);
    filled.back() = 330 % kBlockSize;
    for (const std::string& isa : available_isas()) {
      select_isa(isa);
      std::fill(world.codes[1].begin(), world.codes[1].end(), 0xdeadbeef);
      TestWorld::in_team(3, backend->thread_scratch(world.context, 330), 0, [&](Team& team) {
        rehash_blocks(world.context, 1, sequence.table.data(), filled.data(),
                      static_cast<int32_t>(filled.size()), team);
      });
      CHECK(world.codes[0] == world.codes[1]);  // untouched words hold the same pattern
    }
  }
  select_isa("auto");
}

TEST(counters_tell_what_was_read) {
  Shape shape;
  TestWorld world(shape, 3);
  const auto encoder = make_encoder(world.artifact("linear-asym", 128), 1);
  world.context.encoders[0] = encoder.get();
  TestSequence a(world, 300), b(world, 100);
  std::vector<LayerPolicy> policies(1, policy_of(LayerMode::kSparse, 50));
  policies[0].crossover = 128;
  const auto backend = make_backend("spotlight");
  TestStep prompt(world, 0), decode(world, 0);
  prompt.add(a, 0, 299, false, policies);
  prompt.add(b, 0, 99, false, policies);
  prompt.run(world, *backend, 2);
  CHECK_EQ(world.counters.sparse_rows.load() + world.counters.dense_fallback_rows.load(), 0);
  decode.add(a, 299, 1, true, policies);
  decode.add(b, 99, 1, true, policies);
  decode.run(world, *backend, 2);
  CHECK_EQ(world.counters.sparse_rows.load(), 1);
  CHECK_EQ(world.counters.dense_fallback_rows.load(), 1);
  CHECK_EQ(world.counters.selected_tokens.load(), 2 * 50);
  CHECK_EQ(world.counters.context_tokens.load(), 2 * 300);
}

TEST(names_are_checked) {
  CHECK_THROWS(make_backend("flash"), kInvalidArgument, "dense or spotlight");
  CHECK_THROWS(select_isa("sse9"), kInvalidArgument, "sse9");
  Shape shape;
  TestWorld world(shape);
  Artifact artifact = world.artifact("linear-asym", 128);
  CHECK_THROWS(make_encoder(artifact, 0), kArtifactMismatch, "layers");
  artifact.encoder = "fourier";
  CHECK_THROWS(make_encoder(artifact, 1), kArtifactMismatch, "fourier");
  artifact.encoder = "linear-asym";
  artifact.bits = 100;
  CHECK_THROWS(make_encoder(artifact, 1), kArtifactMismatch, "multiple of 32");
}

TEST(shapes_are_checked_before_any_kernel_runs) {
  Shape shape;
  TestWorld world(shape);
  const auto wide = make_encoder(world.artifact("linear-asym", 256), 1);
  world.context.encoders[1] = wide.get();
  const auto backend = make_backend("spotlight");
  CHECK_THROWS(backend->thread_scratch(world.context, 100), kArtifactMismatch, "256 bits");
  world.context.encoders[1] = nullptr;
  world.context.query_heads = 65 * shape.kv_heads;
  CHECK_THROWS(backend->thread_scratch(world.context, 100), kModelUnsupported, "query heads");
  world.context.query_heads = shape.query_heads();
  world.arena.head_dim = 72;
  CHECK_THROWS(make_backend("dense")->thread_scratch(world.context, 100), kModelUnsupported, "72");
}

}  // namespace
}  // namespace spotlight
