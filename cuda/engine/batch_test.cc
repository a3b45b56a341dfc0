#include "engine/batch.h"

#include "error.h"
#include "test/check.h"

namespace spotlight {
namespace {

const std::vector<int32_t> kPacked = {2,  1,  1,  // two rows, one copy, one close
                                      7,  64, kRowGenerated | kRowSample,
                                      2,  1,  0,
                                      -1, -1, 11,
                                      30,  // sequence 7
                                      8,  0,  kRowPromptLogprobs | kRowTrace | kRowQuality,
                                      1,  0,  5,
                                      42, 2,  -1,
                                      9,  // sequence 8
                                      3,  4,  6};

TEST(a_batch_unpacks_field_by_field) {
  const Batch batch = unpack_batch(kPacked.data(), kPacked.size());
  CHECK_EQ(batch.rows.size(), size_t{2});
  const BatchRow& first = batch.rows[0];
  CHECK_EQ(first.sequence, 7);
  CHECK_EQ(first.position, 64);
  CHECK(first.generated && first.sample && !first.prompt_logprobs && !first.trace);
  CHECK((first.tokens == std::vector<int32_t>{-1, 11}));
  CHECK((first.append_blocks == std::vector<int32_t>{30}));
  const BatchRow& second = batch.rows[1];
  CHECK(!second.generated && !second.sample && second.prompt_logprobs && second.trace);
  CHECK(second.quality && !first.quality);
  CHECK_EQ(second.quality_layer, 2);
  CHECK_EQ(second.quality_kv_head, -1);
  CHECK_EQ(second.top_prompt_logprobs, 5);
  CHECK_EQ(second.next_token, 42);
  CHECK((second.tokens == std::vector<int32_t>{9}));
  CHECK((batch.copies == std::vector<std::pair<int32_t, int32_t>>{{3, 4}}));
  CHECK((batch.close == std::vector<int32_t>{6}));
}

TEST(every_wrong_length_is_refused) {
  for (size_t size = 0; size < kPacked.size(); size++) {
    CHECK_THROWS(unpack_batch(kPacked.data(), size), kInternal, "packed batch");
  }
  std::vector<int32_t> longer = kPacked;
  longer.push_back(0);
  CHECK_THROWS(unpack_batch(longer.data(), longer.size()), kInternal, "longer");
  for (const size_t at : {0, 1, 2, 6, 7}) {
    for (const int32_t value : {-1, 1 << 30}) {
      std::vector<int32_t> wrong = kPacked;
      wrong[at] = value;
      CHECK_THROWS(unpack_batch(wrong.data(), wrong.size()), kInternal, "packed batch");
    }
  }
}

TEST(results_pack_in_the_order_pack_ts_reads) {
  StepResult result;
  result.rows.resize(3);
  result.rows[0].sequence = 1;
  result.rows[0].token = 5;
  result.rows[1].sequence = 2;
  result.rows[1].token = 6;
  result.rows[1].logprobs = TokenLogprobs{6, -0.5f, {6, 3}, {-0.5f, -1.5f}};
  result.rows[1].has_prompt_logprobs = true;
  result.rows[1].prompt_logprobs = {{4, -2.f, {}, {}}};
  result.rows[1].trace = {{0, 9}, {}};
  result.rows[1].quality = {{1, 0, {0.25f, 0.5f, 0.75f}}};
  result.rows[2].sequence = 3;
  result.rows[2].corrupted = true;
  const PackedResult packed = pack_result(result);
  CHECK((packed.ints == std::vector<int32_t>{1,
                                             5,
                                             0,  //
                                             2,
                                             6,
                                             kResultLogprobs | kResultPromptLogprobs |
                                                 kResultTrace | kResultQuality,  //
                                             6,
                                             2,
                                             6,
                                             3,
                                             1,
                                             4,
                                             0,
                                             2,
                                             0,
                                             9,
                                             0,
                                             1,
                                             1,
                                             0,  //
                                             3,
                                             -1,
                                             kResultCorrupted}));
  CHECK_CLOSE(packed.floats, (std::vector<float>{-0.5f, -0.5f, -1.5f, -2.f, 0.25f, 0.5f, 0.75f}), 0,
              0);
}

}  // namespace
}  // namespace spotlight
