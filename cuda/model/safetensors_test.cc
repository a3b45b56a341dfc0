#include "model/safetensors_file.h"
#include "model/test_files.h"

namespace spotlight {
namespace {

using check::SafetensorsBuilder;
using check::TempFolder;
using check::write_file;
using Changes = std::vector<std::pair<std::string, std::string>>;

std::unique_ptr<WeightFile> tiny(const char* shape = "tiny-llama") {
  return make_dummy(shape, 5, 1, 0);
}

void write_folder(const TempFolder& folder, const WeightFile& model, const Changes& changes = {}) {
  write_file(folder.at("config.json"), check::hf_json(check::hf_fields(model.config()), changes));
  write_file(folder.at("model.safetensors"), check::safetensors_of(model).bytes());
}

TEST(every_architecture_comes_back_as_it_was_written) {
  for (const char* shape : {"tiny-llama", "tiny-qwen2", "tiny-qwen3"}) {
    const TempFolder folder;
    const auto model = make_dummy(shape, 5, 2, 0);
    write_folder(folder, *model);
    const auto opened = open_safetensors(folder.path());
    check::check_same_weights(*opened, *model);
    CHECK_EQ(fingerprint_text(opened->config()), fingerprint_text(model->config()));
    CHECK_EQ(opened->config().architecture, model->config().architecture);
    CHECK_EQ(opened->config().bos_token, 1);
    CHECK(!opened->tokenizer().present);
  }
}

// Both forms of one model, as the two converters write them, under the same RoPE.
void check_both_forms(const char* shape, const Changes& hf,
                      const std::function<void(check::GgufBuilder&)>& gguf) {
  const TempFolder folder;
  const auto model = make_dummy(shape, 9, 2, 0);
  write_folder(folder, *model, hf);
  check::GgufBuilder file = check::gguf_of(*model);
  gguf(file);
  write_file(folder.at("m.gguf"), file.bytes());
  const auto one = open_safetensors(folder.path()), other = open_gguf(folder.at("m.gguf"));
  check::check_same_weights(*other, *one);
  CHECK_EQ(fingerprint_text(other->config()), fingerprint_text(one->config()));
  CHECK_EQ(other->config().max_model_len, one->config().max_model_len);
}

TEST(both_forms_of_a_model_have_one_fingerprint) {
  const auto same = [](check::GgufBuilder&) {};
  for (const char* shape : {"tiny-llama", "tiny-qwen2", "tiny-qwen3"})
    check_both_forms(shape, {}, same);
  check_both_forms("tiny-llama",
                   {{"model_type", "\"mistral\""}, {"architectures", "[\"MistralForCausalLM\"]"}},
                   same);
  // A theta and an epsilon that no float32 holds exactly.
  check_both_forms("tiny-llama", {{"rope_theta", "1234567.891"}, {"rms_norm_eps", "3.3e-06"}},
                   [](check::GgufBuilder& file) {
                     file.set_float("llama.rope.freq_base", 1234567.891f);
                     file.set_float("llama.attention.layer_norm_rms_epsilon", 3.3e-06f);
                   });
  check_both_forms("tiny-llama", {{"rope_scaling", R"({"type":"linear","factor":2.5})"}},
                   [](check::GgufBuilder& file) {
                     file.set_text("llama.rope.scaling.type", "linear");
                     file.set_float("llama.rope.scaling.factor", 2.5f);
                   });
  check_both_forms(
      "tiny-qwen2",
      {{"rope_scaling",
        R"({"rope_type":"yarn","factor":4.0,"original_max_position_embeddings":16384})"}},
      [](check::GgufBuilder& file) {
        file.set_text("qwen2.rope.scaling.type", "yarn");
        file.set_float("qwen2.rope.scaling.factor", 4.f);
        file.set_uint("qwen2.rope.scaling.original_context_length", 16384);
      });
}

TEST(llama3_parameters_and_the_tensor_made_of_them_have_one_fingerprint) {
  const Changes hf = {
      {"rope_scaling", "null"},
      {"rope_theta", ""},
      {"rope_parameters",
       R"({"rope_theta":500000.0,"rope_type":"llama3","factor":8.0,"low_freq_factor":1.0,)"
       R"("high_freq_factor":4.0,"original_max_position_embeddings":8192})"}};
  check_both_forms("tiny-llama", hf, [](check::GgufBuilder& file) {
    file.set_float("llama.rope.freq_base", 500000.f);
    std::string bytes;
    for (int i = 0; i < 16; i++) {  // in float32, as llama.cpp's converter computes it
      const float frequency = 1.f / std::pow(500000.f, 2.f * i / 32.f);
      const float wavelength = 2.f * 3.14159265f / frequency;
      const float smooth = (8192.f / wavelength - 1.f) / (4.f - 1.f);
      bytes += check::raw(wavelength < 2048.f   ? 1.f
                          : wavelength > 8192.f ? 8.f
                                                : 1.f / ((1.f - smooth) / 8.f + smooth));
    }
    file.tensors.push_back({"rope_freqs.weight", {16}, GGML_TYPE_F32, bytes});
  });
}

TEST(shards_are_found_through_the_index) {
  const TempFolder folder;
  const auto model = tiny();
  write_folder(folder, *model);
  std::filesystem::remove(folder.at("model.safetensors"));
  const SafetensorsBuilder all = check::safetensors_of(*model);
  SafetensorsBuilder parts[2];
  std::string map;
  for (size_t i = 0; i < all.tensors.size(); i++) {
    parts[i % 2].tensors.push_back(all.tensors[i]);
    map += (map.empty() ? "\"" : ",\"") + all.tensors[i].name + "\":\"part-" +
           std::to_string(i % 2) + ".safetensors\"";
  }
  write_file(folder.at("part-0.safetensors"), parts[0].bytes());
  const std::string index = folder.at("model.safetensors.index.json");
  write_file(index, "{\"metadata\":{},\"weight_map\":{" + map + "}}");
  CHECK_THROWS(open_safetensors(folder.path()), kModelNotFound, "part-1.safetensors: missing");
  write_file(folder.at("part-1.safetensors"), parts[1].bytes());
  check::check_same_weights(*open_safetensors(folder.path()), *model);

  write_file(folder.at("part-1.safetensors"), parts[0].bytes());
  CHECK_THROWS(open_safetensors(folder.path()), kModelCorrupt, "lists it here");
  write_file(index, R"({"weight_map":{"x":"../part-0.safetensors"}})");
  CHECK_THROWS(open_safetensors(folder.path()), kModelCorrupt,
               "not a .safetensors file of the folder");
  write_file(index, R"({"weight_map":{"x":7}})");
  CHECK_THROWS(open_safetensors(folder.path()), kModelCorrupt, "is not a file's name");
  write_file(index, "{}");
  CHECK_THROWS(open_safetensors(folder.path()), kModelCorrupt, "weight_map is missing");
}

TEST(a_tied_heads_copy_is_ignored_and_half_precision_is_handed_on) {
  const TempFolder folder;
  const auto model = tiny();
  write_folder(folder, *model);
  SafetensorsBuilder file = check::safetensors_of(*model);
  file.tensors.push_back({"lm_head.weight", "BF16", "[1,1]", "ab"});
  file.tensors.push_back({"model.layers.0.self_attn.rotary_emb.inv_freq", "F32", "[1]", "abcd"});
  for (SafetensorsBuilder::Tensor& tensor : file.tensors)
    if (tensor.name == "model.layers.0.mlp.up_proj.weight") tensor.dtype = "F16";
  // An odd-sized tensor in front leaves all others misaligned in the file.
  file.tensors.insert(file.tensors.begin(),
                      {"model.layers.1.self_attn.rotary_emb.inv_freq", "U8", "[1]", "x"});
  write_file(folder.at("model.safetensors"), file.bytes());
  const auto opened = open_safetensors(folder.path());
  CHECK(!opened->has("head"));
  CHECK_EQ(opened->get("layers.0.up").ggml_type, static_cast<int>(GGML_TYPE_F16));
  for (const auto& [name, view] : opened->views()) {
    CHECK_EQ(reinterpret_cast<uintptr_t>(view.data) % 4, uintptr_t{0});
    CHECK(std::memcmp(view.data, model->get(name).data, view.bytes) == 0);
  }
}

TEST(end_tokens_come_from_both_files_once) {
  const TempFolder folder;
  write_folder(folder, *tiny(), {{"eos_token_id", "[2,7]"}, {"bos_token_id", "null"}});
  write_file(folder.at("generation_config.json"), R"({"eos_token_id":[7,9]})");
  const ModelConfig config = open_safetensors(folder.path())->config();
  CHECK(config.eos_tokens == (std::vector<int32_t>{2, 7, 9}));
  CHECK_EQ(config.bos_token, -1);
  write_file(folder.at("generation_config.json"), R"({"eos_token_id":[4096]})");
  CHECK_THROWS(open_safetensors(folder.path()), kModelCorrupt, "eos token: 4096");
}

TEST(a_window_is_refused_only_where_it_hides_tokens) {
  const Changes mistral = {{"model_type", "\"mistral\""},
                           {"architectures", "[\"MistralForCausalLM\"]"}};
  const auto open = [](const char* shape, Changes changes, const Changes& more) {
    const TempFolder folder;
    changes.insert(changes.end(), more.begin(), more.end());
    write_folder(folder, *tiny(shape), changes);
    open_safetensors(folder.path());
  };
  CHECK_THROWS(open("tiny-llama", mistral, {{"sliding_window", "4096"}}), kModelUnsupported,
               "sliding_window 4096");
  open("tiny-llama", mistral, {{"sliding_window", "null"}});
  open("tiny-llama", mistral, {{"sliding_window", "16384"}});
  open("tiny-qwen2", {}, {{"sliding_window", "4096"}, {"use_sliding_window", "false"}});
  open("tiny-qwen2", {},
       {{"sliding_window", "4096"}, {"use_sliding_window", "true"}, {"max_window_layers", "28"}});
  CHECK_THROWS(
      open(
          "tiny-qwen2", {},
          {{"sliding_window", "4096"}, {"use_sliding_window", "true"}, {"max_window_layers", "0"}}),
      kModelUnsupported, "sliding window");
  CHECK_THROWS(open("tiny-qwen3", {},
                    {{"sliding_window", "4096"}, {"layer_types", R"(["sliding_attention"])"}}),
               kModelUnsupported, "sliding window");
}

TEST(what_the_forward_pass_lacks_is_refused_by_name) {
  struct Wrong {
    Changes changes;
    const char* code;
    const char* part;
  };
  const Wrong cases[] = {
      {{{"model_type", "\"gemma2\""}}, kModelUnsupported, "architecture gemma2"},
      {{{"model_type", ""}}, kModelCorrupt, "model_type is missing"},
      {{{"architectures", "[\"LlamaForSequenceClassification\"]"}},
       kModelUnsupported,
       "LlamaForSequenceClassification"},
      {{{"hidden_size", ""}}, kModelCorrupt, "hidden_size is missing"},
      {{{"hidden_size", "\"128\""}}, kModelCorrupt, "hidden_size is not an integer"},
      {{{"hidden_size", "-128"}}, kModelCorrupt, "hidden_size is -128"},
      {{{"num_attention_heads", "0"}}, kModelCorrupt, "num_attention_heads is 0"},
      {{{"num_hidden_layers", "99999999999"}}, kModelCorrupt, "num_hidden_layers"},
      {{{"num_hidden_layers", "18446744073709551615"}}, kModelCorrupt, "num_hidden_layers"},
      {{{"num_hidden_layers", "2"}},
       kModelCorrupt,
       "model.layers.1.input_layernorm.weight is missing"},
      {{{"intermediate_size", "255"}},
       kModelCorrupt,
       "shape [256, 128] where the model's config needs [255, 128]"},
      {{{"hidden_act", "\"gelu\""}}, kModelUnsupported, "hidden_act gelu"},
      {{{"mlp_bias", "true"}}, kModelUnsupported, "mlp_bias"},
      {{{"attention_bias", "true"}}, kModelCorrupt, "q_proj.bias is missing"},
      {{{"quantization_config", "{}"}}, kModelUnsupported, "quantization_config"},
      {{{"partial_rotary_factor", "0.5"}}, kModelUnsupported, "partial_rotary_factor"},
      {{{"rope_scaling", R"({"type":"dynamic","factor":2})"}},
       kModelUnsupported,
       "RoPE scaling dynamic"},
      {{{"rope_scaling", R"({"rope_type":"longrope","factor":2})"}},
       kModelUnsupported,
       "RoPE scaling longrope"},
      {{{"rope_scaling", R"({"rope_type":"linear"})"}}, kModelCorrupt, "factor is missing"},
      {{{"rope_scaling", R"({"rope_type":"llama3","factor":8})"}},
       kModelCorrupt,
       "low_freq_factor is missing"},
      {{{"rope_scaling", R"({"rope_type":"yarn","factor":8,"mscale":1.0})"}},
       kModelUnsupported,
       "mscale"},
      {{{"rope_scaling", R"({"rope_type":"linear","factor":-1})"}}, kModelCorrupt, "factor"},
      {{{"rope_parameters", R"({"full_attention":{"rope_theta":1}})"}},
       kModelUnsupported,
       "differs by layer"},
      {{{"eos_token_id", "[1,\"a\"]"}}, kModelCorrupt, "eos_token_id must be a token id"},
      {{{"rms_norm_eps", "true"}}, kModelCorrupt, "rms_norm_eps is not a number"},
  };
  for (const Wrong& wrong : cases) {
    const TempFolder folder;
    write_folder(folder, *tiny(), wrong.changes);
    CHECK_THROWS(open_safetensors(folder.path()), wrong.code, wrong.part);
  }
}

TEST(missing_and_broken_files_are_named) {
  const TempFolder folder;
  CHECK_THROWS(open_safetensors(folder.at("absent")), kModelNotFound, "absent");
  CHECK_THROWS(open_safetensors(folder.path()), kModelNotFound, "config.json");
  write_folder(folder, *tiny());
  CHECK_THROWS(open_safetensors(folder.at("model.safetensors")), kModelNotFound, "not a folder");
  write_file(folder.at("config.json"), "{\"model_type\":");
  CHECK_THROWS(open_safetensors(folder.path()), kModelCorrupt, "config.json: not JSON");
  write_file(folder.at("config.json"), "[1]");
  CHECK_THROWS(open_safetensors(folder.path()), kModelCorrupt, "must be a JSON object");
  write_file(folder.at("config.json"), R"({"a":1,"a":2})");
  CHECK_THROWS(open_safetensors(folder.path()), kModelCorrupt, "key a appears twice");
  write_file(folder.at("config.json"), std::string(1000, '['));
  CHECK_THROWS(open_safetensors(folder.path()), kModelCorrupt, "nested too deep");
  write_folder(folder, *tiny());
  std::filesystem::remove(folder.at("model.safetensors"));
  CHECK_THROWS(open_safetensors(folder.path()), kModelNotFound, "neither model.safetensors nor");
  write_file(folder.at("pytorch_model.bin"), "x");
  CHECK_THROWS(open_safetensors(folder.path()), kModelUnsupported, "convert it to safetensors");
}

TEST(tensors_that_do_not_add_up_are_refused) {
  const TempFolder folder;
  const auto refused = [&](const std::string& header, const std::string& data, const char* part) {
    write_file(folder.at("f"), check::raw<uint64_t>(header.size()) + header + data);
    CHECK_THROWS(SafetensorsFile(folder.at("f"), kModelNotFound, kModelCorrupt), kModelCorrupt,
                 part);
  };
  const std::string a = R"("a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]})";
  refused("{" + a + "}", "1234567", "truncated");
  refused("{" + a + "}", "123456789", "1 bytes after the last tensor");
  refused("{" + a + R"(,"b":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})", "12345678",
          "overlaps another");
  refused("{" + a + R"(,"b":{"dtype":"F32","shape":[1],"data_offsets":[12,16]}})",
          "1234567812345678", "leaves a hole");
  refused(R"({"a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}})", "12345678",
          "needs 12 bytes");
  refused(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}})", "12345678",
          "data_offsets [8, 0]");
  refused(
      R"({"a":{"dtype":"F32","shape":[2147483647,2147483647,2147483647],"data_offsets":[0,8]}})",
      "12345678", "overflows");
  refused(R"({"a":{"dtype":"F32","shape":[4294967296],"data_offsets":[0,8]}})", "12345678",
          "extent");
  refused(R"({"a":{"dtype":"F32","shape":[-2],"data_offsets":[0,8]}})", "12345678",
          "whole numbers");
  refused(R"({"a":{"dtype":"F32","shape":[2.0],"data_offsets":[0,8]}})", "12345678",
          "whole numbers");
  refused(R"({"a":{"dtype":"Q9","shape":[2],"data_offsets":[0,8]}})", "12345678",
          "unknown dtype Q9");
  refused(R"({"a":{"shape":[2],"data_offsets":[0,8]}})", "12345678", "no dtype");
  refused(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0]}})", "12345678", "two entries");
  refused(R"({"a":5})", "", "not an object");
  refused("{" + a + "," + a + "}", "12345678", "key a appears twice");
  refused(R"({"__metadata__":{"k":1}})", "", "__metadata__.k is not text");
  refused("[]", "", "not a JSON object");
  refused("{\"\xff\":1}", "", "not JSON");
  write_file(folder.at("f"), check::raw<uint64_t>(100'000'001));
  CHECK_THROWS(SafetensorsFile(folder.at("f"), kModelNotFound, kModelCorrupt), kModelCorrupt,
               "at most 100000000");
  write_file(folder.at("f"), check::raw<uint64_t>(3) + "{}");
  CHECK_THROWS(SafetensorsFile(folder.at("f"), kModelNotFound, kModelCorrupt), kModelCorrupt,
               "truncated");
}

TEST(truncation_and_random_damage_never_crash) {
  const TempFolder folder;
  const auto model = tiny();
  write_folder(folder, *model);
  const std::string path = folder.at("model.safetensors");
  const std::string whole = check::safetensors_of(*model).bytes();
  const size_t header = 8 + check::safetensors_of(*model).header().size();
  for (size_t cut = 0; cut < whole.size(); cut += cut < header ? 3 : 65521) {
    write_file(path, whole.substr(0, cut));
    CHECK_THROWS(open_safetensors(folder.path()), kModelCorrupt, "model.safetensors");
  }
  uint32_t random = 99;
  const auto next = [&] { return random = random * 1664525u + 1013904223u, random >> 8; };
  for (int round = 0; round < 2000; round++) {
    std::string bytes = whole;
    for (uint32_t flips = 1 + next() % 3; flips > 0; flips--)
      bytes[next() % header] = static_cast<char>(next());
    write_file(path, bytes);
    try {
      open_safetensors(folder.path());
    } catch (const Error& error) {
      CHECK(error.code() == std::string(kModelCorrupt) ||
            error.code() == std::string(kModelUnsupported));
    }
  }
}

}  // namespace
}  // namespace spotlight
