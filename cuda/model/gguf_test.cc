#include "model/gguf_reader.h"
#include "model/test_files.h"

namespace spotlight {
namespace {

using check::GgufBuilder;
using check::raw;
using check::TempFolder;

GgufBuilder sound(const char* shape = "tiny-llama", int32_t layers = 1) {
  return check::gguf_of(*make_dummy(shape, 5, layers, 0));
}

void refused(const GgufBuilder& file, const char* code, const char* part) {
  const TempFolder folder;
  check::write_file(folder.at("m.gguf"), file.bytes());
  CHECK_THROWS(open_gguf(folder.at("m.gguf")), code, part);
}

TEST(every_architecture_comes_back_as_it_was_written) {
  const TempFolder folder;
  for (const char* shape : {"tiny-llama", "tiny-qwen2", "tiny-qwen3"}) {
    const auto model = make_dummy(shape, 5, 2, 0);
    check::write_file(folder.at("m.gguf"), check::gguf_of(*model).bytes());
    const auto opened = open_gguf(folder.at("m.gguf"));
    check::check_same_weights(*opened, *model);
    CHECK_EQ(fingerprint_text(opened->config()), fingerprint_text(model->config()));
    CHECK_EQ(opened->config().max_model_len, model->config().max_model_len);
    CHECK_EQ(opened->config().tied_embeddings, model->config().tied_embeddings);
    CHECK_EQ(opened->config().eos_tokens.at(0), 2);
    CHECK(!opened->tokenizer().present);
  }
}

// A head's rotation in both orders: interleaved turns (2i, 2i + 1), half-split turns (i, i + half)
// by the same angle.
void rotate(float* head, int32_t dim, int32_t position, bool interleaved) {
  for (int32_t i = 0; i < dim / 2; i++) {
    const float angle = static_cast<float>(position * std::pow(10000.0, -2.0 * i / dim));
    float& a = head[interleaved ? 2 * i : i];
    float& b = head[interleaved ? 2 * i + 1 : i + dim / 2];
    const float turned = a * std::cos(angle) - b * std::sin(angle);
    b = a * std::sin(angle) + b * std::cos(angle);
    a = turned;
  }
}

std::vector<float> project(const std::string& bf16, const std::vector<float>& x) {
  std::vector<float> y(bf16.size() / 2 / x.size());
  for (size_t row = 0; row < y.size(); row++)
    for (size_t col = 0; col < x.size(); col++) {
      ggml_bf16_t weight;
      std::memcpy(&weight, bf16.data() + 2 * (row * x.size() + col), 2);
      y[row] += ggml_bf16_to_fp32(weight) * x[col];
    }
  return y;
}

TEST(unpermuted_rows_rotate_half_split_to_what_the_file_means_interleaved) {
  const TempFolder folder;
  const GgufBuilder file = sound();
  check::write_file(folder.at("m.gguf"), file.bytes());
  const auto opened = open_gguf(folder.at("m.gguf"));
  const int32_t dim = 32, half = dim / 2;
  std::vector<float> x(128);
  for (size_t i = 0; i < x.size(); i++) x[i] = std::sin(static_cast<float>(i));
  for (const auto& [stored, name, heads] : {std::tuple("blk.0.attn_q.weight", "layers.0.q", 4),
                                            std::tuple("blk.0.attn_k.weight", "layers.0.k", 2)}) {
    std::vector<float> original = project(GgufBuilder(file).tensor(stored).bytes, x);
    std::vector<float> ours = project(check::bytes_of(opened->get(name)), x);
    CHECK(original != ours);
    for (int32_t head = 0; head < heads; head++) {
      rotate(&original[head * dim], dim, 77, true);
      rotate(&ours[head * dim], dim, 77, false);
      for (int32_t i = 0; i < half; i++)
        for (int32_t j = 0; j < 2; j++)
          CHECK_EQ(ours[head * dim + j * half + i], original[head * dim + 2 * i + j]);
    }
  }
}

TEST(quantised_rows_are_unpermuted_bit_for_bit) {
  const TempFolder folder;
  GgufBuilder file = sound();
  GgufBuilder::Tensor& q = file.tensor("blk.0.attn_q.weight");
  q.type = GGML_TYPE_Q4_1;
  const size_t row = ggml_row_size(GGML_TYPE_Q4_1, 128);
  q.bytes.assign(128 * row, '\0');
  for (size_t r = 0; r < 128; r++) std::memset(&q.bytes[r * row], static_cast<int>(r), row);
  check::write_file(folder.at("m.gguf"), file.bytes());
  const auto opened = open_gguf(folder.at("m.gguf"));
  const std::string ours = check::bytes_of(opened->get("layers.0.q"));
  for (int head = 0; head < 4; head++)
    for (int i = 0; i < 16; i++)
      for (int j = 0; j < 2; j++)
        CHECK(ours.substr((head * 32 + j * 16 + i) * row, row) ==
              std::string(row, static_cast<char>(head * 32 + 2 * i + j)));
}

TEST(a_llamas_biases_are_unpermuted_and_vectors_become_float32) {
  const TempFolder folder;
  GgufBuilder file = sound();
  for (const auto& [part, width] : {std::pair("q", 128), std::pair("k", 64), std::pair("v", 64)}) {
    std::string bytes;
    for (int i = 0; i < width; i++) bytes += raw(ggml_fp32_to_bf16(static_cast<float>(i)));
    file.tensors.push_back({std::string("blk.0.attn_") + part + ".bias",
                            {static_cast<uint64_t>(width)},
                            GGML_TYPE_BF16,
                            bytes});
  }
  check::write_file(folder.at("m.gguf"), file.bytes());
  const auto opened = open_gguf(folder.at("m.gguf"));
  CHECK(opened->config().qkv_bias);
  const WeightView& k = opened->get("layers.0.k_bias");
  CHECK_EQ(k.ggml_type, static_cast<int>(GGML_TYPE_F32));
  CHECK_EQ(k.bytes, 64 * sizeof(float));
  const auto* values = static_cast<const float*>(k.data);
  CHECK_EQ(values[1], 2.f);    // the first half holds the even rows
  CHECK_EQ(values[16], 1.f);   // the second half the odd ones
  CHECK_EQ(values[33], 34.f);  // and the next head likewise
  CHECK_EQ(static_cast<const float*>(opened->get("layers.0.v_bias").data)[33], 33.f);
}

TEST(tokenizer_fields_and_end_tokens_are_read) {
  const TempFolder folder;
  GgufBuilder file = sound();
  file.set_text("tokenizer.ggml.model", "gpt2");
  file.set_text("tokenizer.ggml.pre", "smollm");
  file.set_texts("tokenizer.ggml.tokens",
                 {"<|endoftext|>", "<s>", "</s>", "<|eot_id|>", "<|im_end|>", "a"});
  file.set_ints("tokenizer.ggml.token_type", {3, 3, 3, 3, 1, 1});
  file.set_texts("tokenizer.ggml.merges", {"a b"});
  file.set_bool("tokenizer.ggml.add_bos_token", false);
  file.set_uint("tokenizer.ggml.eom_token_id", 0);
  file.set_uint("tokenizer.ggml.padding_token_id", UINT32_MAX);
  file.set_text("tokenizer.chat_template", "{{ x }}");
  check::write_file(folder.at("m.gguf"), file.bytes());
  const auto opened = open_gguf(folder.at("m.gguf"));
  const TokenizerFields& fields = opened->tokenizer();
  CHECK(fields.present);
  CHECK_EQ(fields.model, "gpt2");
  CHECK_EQ(fields.pre, "smollm");
  CHECK_EQ(fields.tokens.at(3), "<|eot_id|>");
  CHECK_EQ(fields.merges.at(0), "a b");
  CHECK_EQ(fields.chat_template, "{{ x }}");
  CHECK_EQ(fields.bos, 1);
  CHECK_EQ(fields.pad, -1);
  CHECK_EQ(static_cast<int>(fields.add_bos), 0);
  CHECK_EQ(static_cast<int>(fields.add_eos), -1);
  // eos, eom, then the control token of a chat format; <|im_end|> is ordinary text in this
  // vocabulary.
  CHECK(opened->config().eos_tokens == (std::vector<int32_t>{2, 0, 3}));
}

TEST(llama3_factors_come_from_their_tensor) {
  const TempFolder folder;
  GgufBuilder file = sound();
  std::string bytes;
  for (int i = 0; i < 16; i++) bytes += raw(i < 8 ? 1.f : 8.f);
  file.tensors.push_back({"rope_freqs.weight", {16}, GGML_TYPE_F32, bytes});
  check::write_file(folder.at("m.gguf"), file.bytes());
  const RopeConfig rope = open_gguf(folder.at("m.gguf"))->config().rope;
  CHECK(rope.scaling == RopeScaling::kLlama3);
  CHECK_EQ(rope.factor, 8.f);
  CHECK_EQ(rope.freq_factors.at(7), 1.f);
  CHECK_EQ(rope.freq_factors.at(8), 8.f);
  file.tensors.back().dims = {8};
  file.tensors.back().bytes.resize(32);
  refused(file, kModelCorrupt, "frequency factors");
}

TEST(rope_scaling_is_read_or_refused_by_name) {
  const TempFolder folder;
  GgufBuilder file = sound();
  file.set_text("llama.rope.scaling.type", "yarn");
  file.set_float("llama.rope.scaling.factor", 4);
  file.set_uint("llama.rope.scaling.original_context_length", 8192);
  check::write_file(folder.at("m.gguf"), file.bytes());
  const ModelConfig config = open_gguf(folder.at("m.gguf"))->config();
  CHECK(config.rope.scaling == RopeScaling::kYarn);
  CHECK_EQ(config.max_model_len, 32768);
  file.set_float("llama.rope.scaling.yarn_log_multiplier", 0.1f);
  refused(file, kModelUnsupported, "yarn_log_multiplier");
  file.set_text("llama.rope.scaling.type", "longrope");
  refused(file, kModelUnsupported, "RoPE scaling longrope");
}

TEST(what_the_forward_pass_lacks_is_refused_by_name) {
  struct Wrong {
    std::function<void(GgufBuilder&)> change;
    const char* code;
    const char* part;
  };
  const Wrong cases[] = {
      {[](GgufBuilder& f) { f.set_text("general.architecture", "gemma3"); }, kModelUnsupported,
       "architecture gemma3"},
      {[](GgufBuilder& f) { f.unset("general.architecture"); }, kModelCorrupt,
       "general.architecture is missing"},
      {[](GgufBuilder& f) { f.set_uint("general.architecture", 1); }, kModelCorrupt,
       "general.architecture is not text"},
      {[](GgufBuilder& f) { f.version = 1; }, kModelUnsupported, "GGUF version 1"},
      {[](GgufBuilder& f) { f.version = 3u << 24; }, kModelUnsupported, "big-endian"},
      {[](GgufBuilder& f) { f.unset("llama.block_count"); }, kModelCorrupt,
       "llama.block_count is missing"},
      {[](GgufBuilder& f) {
         f.set_ints("llama.feed_forward_length", {1, 2});
       },
       kModelUnsupported, "differs by layer"},
      {[](GgufBuilder& f) { f.set_uint("llama.expert_count", 8); }, kModelUnsupported, "8 experts"},
      {[](GgufBuilder& f) { f.set_uint("llama.attention.sliding_window", 4096); },
       kModelUnsupported, "sliding window (4096"},
      {[](GgufBuilder& f) { f.set_uint("llama.attention.value_length", 64); }, kModelUnsupported,
       "different length"},
      {[](GgufBuilder& f) { f.set_uint("llama.rope.dimension_count", 16); }, kModelUnsupported,
       "partial rotary"},
      {[](GgufBuilder& f) { f.set_uint("split.count", 2); }, kModelUnsupported, "split"},
      {[](GgufBuilder& f) { f.set_float("llama.rope.freq_base", NAN); }, kModelCorrupt,
       "rope theta"},
      {[](GgufBuilder& f) { f.set_uint("tokenizer.ggml.bos_token_id", 5000); }, kModelCorrupt,
       "bos token: 5000"},
      {[](GgufBuilder& f) {
         f.set_texts("tokenizer.ggml.tokens", std::vector<std::string>(1025, "x"));
       },
       kModelCorrupt, "1025 tokens"},
      {[](GgufBuilder& f) { f.tensors.pop_back(); }, kModelCorrupt,
       "output_norm.weight is missing"},
      {[](GgufBuilder& f) {
         f.tensors.push_back({"blk.0.attn_output.bias", {1}, 0, raw(0.f)});
       },
       kModelUnsupported, "attn_output.bias is no part"},
      {[](GgufBuilder& f) {
         f.tensor("blk.0.attn_k.weight").dims = {64, 128};
       },
       kModelCorrupt, "attn_k.weight: shape [128, 64] where"},
      {[](GgufBuilder& f) { f.tensor("output_norm.weight").type = 4; }, kModelUnsupported,
       "number 4"},
      {[](GgufBuilder& f) { f.tensor("output_norm.weight").type = 4000; }, kModelUnsupported,
       "number 4000"},
      {[](GgufBuilder& f) { f.tensor("output_norm.weight").type = GGML_TYPE_F64; },
       kModelUnsupported, "f64"},
      {[](GgufBuilder& f) { f.tensor("output_norm.weight").type = GGML_TYPE_Q8_0; },
       kModelUnsupported, "norm or bias of type q8_0"},
      {[](GgufBuilder& f) {
         f.tensor("blk.0.ffn_up.weight").dims = {128, 128, 2};
       },
       kModelUnsupported, "more than two dimensions"},
      {[](GgufBuilder& f) {
         f.tensor("blk.0.ffn_up.weight").dims = {UINT64_MAX, 1};
       },
       kModelCorrupt, "extent"},
      {[](GgufBuilder& f) {
         f.tensor("blk.0.ffn_up.weight").dims = {INT32_MAX, INT32_MAX};
       },
       kModelCorrupt, "truncated"},
      {[](GgufBuilder& f) { f.tensor("blk.0.ffn_up.weight").dims = {}; }, kModelCorrupt,
       "0 dimensions"},
      {[](GgufBuilder& f) { f.tensors.push_back(f.tensors.back()); }, kModelCorrupt,
       "appears twice"},
      {[](GgufBuilder& f) { f.values.push_back(f.values.back()); }, kModelCorrupt, "appears twice"},
      {[](GgufBuilder& f) { f.set_uint("general.alignment", 3); }, kModelCorrupt,
       "general.alignment is 3"},
      {[](GgufBuilder& f) { f.set_uint("general.alignment", 0); }, kModelCorrupt,
       "general.alignment is 0"},
      {[](GgufBuilder& f) {
         f.set("x", raw<uint32_t>(9) + raw<uint32_t>(4) + raw<uint64_t>(UINT64_MAX));
       },
       kModelCorrupt, "more than the file holds"},
      {[](GgufBuilder& f) { f.set("x", raw<uint32_t>(9) + raw<uint32_t>(9) + raw<uint64_t>(1)); },
       kModelCorrupt, "array of arrays"},
      {[](GgufBuilder& f) { f.set("x", raw<uint32_t>(13)); }, kModelCorrupt, "unknown type 13"},
      {[](GgufBuilder& f) { f.set("x", raw<uint32_t>(8) + raw<uint64_t>(UINT64_MAX - 4)); },
       kModelCorrupt, "bytes"},
  };
  for (const Wrong& wrong : cases) {
    GgufBuilder file = sound();
    wrong.change(file);
    refused(file, wrong.code, wrong.part);
  }
}

TEST(a_missing_file_a_folder_and_an_empty_file_are_told_apart) {
  const TempFolder folder;
  CHECK_THROWS(open_gguf(folder.at("absent.gguf")), kModelNotFound, "No such file");
  CHECK_THROWS(open_gguf(folder.path()), kModelNotFound, "not a file");
  check::write_file(folder.at("empty"), "");
  CHECK_THROWS(open_gguf(folder.at("empty")), kModelCorrupt, "the magic needs 4 bytes, 0 are left");
}

TEST(every_truncation_is_refused) {
  const TempFolder folder;
  GgufBuilder file = sound();
  file.set_texts("tokenizer.ggml.tokens", {"a", "b"});
  const std::string whole = file.bytes();
  const size_t header = file.header_size();
  for (size_t cut = 0; cut < whole.size(); cut += cut < header ? 1 : 4099) {
    check::write_file(folder.at("cut"), whole.substr(0, cut));
    CHECK_THROWS(open_gguf(folder.at("cut")), kModelCorrupt, "cut");
  }
}

TEST(random_damage_never_crashes) {
  const TempFolder folder;
  GgufBuilder file = sound();
  file.set_texts("tokenizer.ggml.tokens", {"a", "b"});
  file.set_ints("tokenizer.ggml.token_type", {1, 3});
  const std::string whole = file.bytes();
  const size_t header = file.header_size();
  uint32_t random = 12345;
  const auto next = [&] { return random = random * 1664525u + 1013904223u, random >> 8; };
  int refused = 0;
  const int rounds = 4000;
  for (int round = 0; round < rounds; round++) {
    std::string bytes = whole;
    for (uint32_t flips = 1 + next() % 3; flips > 0; flips--)
      bytes[next() % header] = static_cast<char>(next());
    check::write_file(folder.at("damaged"), bytes);
    try {
      const auto opened = open_gguf(folder.at("damaged"));
      for (const auto& [name, view] : opened->views())
        CHECK(static_cast<const char*>(view.data)[0] +
                  static_cast<const char*>(view.data)[view.bytes - 1] <
              512);
    } catch (const Error& error) {
      CHECK(error.code() == std::string(kModelCorrupt) ||
            error.code() == std::string(kModelUnsupported));
      refused++;
    }
  }
  CHECK(refused > rounds / 2);  // what is left only changed a number or a name to another sound one
}

TEST(the_default_model_opens) {
  const char* path = std::getenv("SPOTLIGHT_TEST_MODEL");
  if (path == nullptr) check::skip("set SPOTLIGHT_TEST_MODEL to SmolLM2-135M-Instruct.Q4_1.gguf");
  const auto opened = open_gguf(path);
  const auto shape = make_dummy("smollm2-135m", 1, 0, 0);
  CHECK_EQ(fingerprint_text(opened->config()), fingerprint_text(shape->config()));
  CHECK_EQ(opened->views().size(), shape->views().size());
  CHECK_EQ(opened->tokenizer().tokens.size(), size_t{49152});
  CHECK_EQ(opened->tokenizer().pre, "smollm");
  CHECK(opened->config().eos_tokens == std::vector<int32_t>{2});
}

}  // namespace
}  // namespace spotlight
