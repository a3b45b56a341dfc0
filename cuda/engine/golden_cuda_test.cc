// The default model's golden tokens on a GPU, without JS: prompts and continuations made by Hugging
// Face transformers in fp32. Where the reference was sure by a margin, the engine must agree, fed
// the reference's tokens in one prompt and generating by itself. SPOTLIGHT_GOLDEN_GGUF names the
// model's file, SPOTLIGHT_GOLDEN the vectors (test/golden/smollm2-135m.json).
#include <cstdlib>
#include <future>

#include "device/cuda/runtime/gpu_test.h"
#include "engine/engine.h"
#include "model/json.h"
#include "test/check.h"

namespace spotlight {
namespace {

// As test/e2e/golden.ts: nearer argmaxes may swap.
constexpr double kSureMargin = 0.3;

class Golden {
 public:
  Golden() {
    check::need_gpu();
    const char* model = std::getenv("SPOTLIGHT_GOLDEN_GGUF");
    const char* vectors = std::getenv("SPOTLIGHT_GOLDEN");
    if (model == nullptr || vectors == nullptr)
      check::skip("SPOTLIGHT_GOLDEN_GGUF and SPOTLIGHT_GOLDEN name no files");
    prompts = JsonObject::read(vectors).json().at("prompts");
    EngineOptions options;
    options.model.kind = "gguf";
    options.model.path = model;
    options.device = "cuda";
    options.blocks = 16;
    engine = std::make_unique<Engine>(options);
  }

  int32_t open() {
    SequenceOptions options;
    options.sampling.temperature = 0;
    return engine->open(options);
  }
  RowResult run(BatchRow row) {
    Batch batch;
    batch.rows.push_back(std::move(row));
    return run(std::move(batch)).rows.at(0);
  }
  void close(int32_t sequence) {
    Batch batch;
    batch.close = {sequence};
    run(std::move(batch));
  }

  Json prompts;
  std::unique_ptr<Engine> engine;

 private:
  StepResult run(Batch batch) {
    const auto answer = std::make_shared<std::promise<StepResult>>();
    engine->submit(std::move(batch), [answer](StepResult result, const std::exception_ptr& error) {
      if (error != nullptr) {
        answer->set_exception(error);
      } else {
        answer->set_value(std::move(result));
      }
    });
    StepResult result = answer->get_future().get();
    engine->retire();
    return result;
  }
};

// The blocks that tokens [from, to) of the only sequence begin.
std::vector<int32_t> blocks_for(int32_t from, int32_t to) {
  std::vector<int32_t> blocks;
  for (int32_t b = (from + kBlockSize - 1) / kBlockSize; b * kBlockSize < to; b++)
    blocks.push_back(b);
  return blocks;
}

TEST(argmaxes_agree_wherever_the_reference_is_sure) {
  Golden golden;
  int32_t sure = 0;
  for (const Json& prompt : golden.prompts) {
    const auto ids = prompt.at("ids").get<std::vector<int32_t>>();
    const auto greedy = prompt.at("greedy").get<std::vector<int32_t>>();
    const auto margins = prompt.at("margins").get<std::vector<double>>();
    BatchRow row;
    row.sequence = golden.open();
    row.tokens = ids;
    row.tokens.insert(row.tokens.end(), greedy.begin(), greedy.end());
    row.append_blocks = blocks_for(0, static_cast<int32_t>(row.tokens.size()));
    row.prompt_logprobs = true;
    row.top_prompt_logprobs = 1;
    const int32_t sequence = row.sequence;
    const RowResult result = golden.run(std::move(row));
    for (size_t i = 0; i < greedy.size(); i++) {
      if (margins[i] < kSureMargin) continue;
      sure++;
      CHECK_EQ(result.prompt_logprobs.at(ids.size() - 1 + i).top_tokens.at(0), greedy[i]);
    }
    golden.close(sequence);
  }
  CHECK_EQ(sure, 221);
}

TEST(generates_the_reference_as_far_as_every_choice_is_sure) {
  Golden golden;
  int32_t agreed = 0;
  for (const Json& prompt : golden.prompts) {
    const auto greedy = prompt.at("greedy").get<std::vector<int32_t>>();
    const auto margins = prompt.at("margins").get<std::vector<double>>();
    BatchRow row;
    row.tokens = prompt.at("ids").get<std::vector<int32_t>>();
    row.sequence = golden.open();
    const int32_t sequence = row.sequence;
    int32_t position = 0;
    for (size_t i = 0; i < greedy.size() && margins[i] >= kSureMargin; i++) {
      row.sequence = sequence;
      row.position = position;
      row.generated = i > 0;
      row.sample = true;
      position += static_cast<int32_t>(row.tokens.size());
      row.append_blocks = blocks_for(row.position, position);
      CHECK_EQ(golden.run(std::move(row)).token, greedy[i]);
      row = {};
      row.tokens = {kLastSample};
      agreed++;
    }
    golden.close(sequence);
  }
  CHECK(agreed > 20);
}

}  // namespace
}  // namespace spotlight
