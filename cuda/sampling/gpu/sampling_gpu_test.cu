// Tokens drawn on the GPU against run_logits_task on the very same logits: equality, over every
// parameter, ties, infinities, rows that hold nothing, and vocabularies of any size.
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cmath>
#include <limits>
#include <random>
#include <type_traits>

#include "device/cuda/runtime/device_memory.h"
#include "device/cuda/runtime/gpu_test.h"
#include "sampling/gpu/sampling_gpu.h"
#include "sampling/sampling.h"

namespace spotlight::gpu {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();

template <typename T>
T narrowed(float x) {
  if constexpr (std::is_same_v<T, __nv_bfloat16>)
    return __float2bfloat16(x);
  else if constexpr (std::is_same_v<T, __half>)
    return __float2half(x);
  else
    return x;
}
template <typename T>
float widened(T x) {
  if constexpr (std::is_same_v<T, __nv_bfloat16>)
    return __bfloat162float(x);
  else if constexpr (std::is_same_v<T, __half>)
    return __half2float(x);
  else
    return x;
}

template <typename N>
DeviceBuffer<N> uploaded(const std::vector<N>& values) {
  DeviceBuffer<N> buffer(std::max<size_t>(values.size(), 1));
  CUDA_CHECK(
      cudaMemcpy(buffer.data(), values.data(), values.size() * sizeof(N), cudaMemcpyHostToDevice));
  return buffer;
}
template <typename N>
std::vector<N> downloaded(const DeviceBuffer<N>& buffer, size_t count) {
  std::vector<N> values(count);
  CUDA_CHECK(cudaMemcpy(values.data(), buffer.data(), count * sizeof(N), cudaMemcpyDeviceToHost));
  return values;
}

// One batch of rows: what each draws, and its logits.
template <typename T>
struct Batch {
  int32_t vocab = 0;
  int64_t stride = 0;
  std::vector<T> logits;
  std::vector<SamplingParams> params;
  std::vector<TokenCounts> counts;
  std::vector<LogitsTask> tasks;  // params null: the row draws nothing

  int32_t rows() const { return static_cast<int32_t>(tasks.size()); }

  std::vector<int32_t> on_cpu() const {
    std::vector<int32_t> tokens;
    SamplingScratch scratch;
    std::vector<float> row(vocab);
    for (int32_t r = 0; r < rows(); r++) {
      for (int32_t i = 0; i < vocab; i++) row[i] = widened(logits[r * stride + i]);
      LogitsTask task = tasks[r];
      if (task.params != nullptr) run_logits_task(row.data(), vocab, task, scratch);
      tokens.push_back(task.token);
    }
    return tokens;
  }
  // Draws, then last draws by seat (-7: none).
  std::pair<std::vector<int32_t>, std::vector<int32_t>> on_gpu() const {
    std::vector<DrawRow> draw_rows;
    std::vector<LogitEdit> edits;
    bool cuts = false;
    for (const LogitsTask& task : tasks) {
      draw_rows.push_back(make_draw_row(task, vocab, edits));
      const DrawRow& row = draw_rows.back();
      cuts = cuts || row.top_k > 0 || row.top_p < 1 || row.has_min_p != 0;
    }
    const auto device_logits = uploaded(logits);
    const auto device_rows = uploaded(draw_rows);
    const auto device_edits = uploaded(edits);
    const auto last = uploaded(std::vector<int32_t>(rows(), -7));
    const DeviceBuffer<int32_t> draws(rows());
    const DeviceBuffer<char> workspace(draw_workspace_bytes(rows(), vocab));
    CUDA_CHECK(cudaMemset(workspace.data(), 0x5a, workspace.bytes()));
    draw(device_logits.data(), stride, vocab, device_rows.data(), device_edits.data(), rows(), cuts,
         last.data(), draws.data(), workspace.data(), nullptr);
    CUDA_CHECK(cudaDeviceSynchronize());
    return {downloaded(draws, rows()), downloaded(last, rows())};
  }
};

class Dice {
 public:
  explicit Dice(uint32_t seed) : random_(seed) {}
  bool chance(float p) { return uniform_(random_) < p; }
  float unit() { return uniform_(random_); }
  float normal() { return normal_(random_); }
  int pick(int low, int high) { return std::uniform_int_distribution<int>(low, high)(random_); }
  uint64_t bits() { return uint64_t{random_()} << 32 | random_(); }

 private:
  std::mt19937 random_;
  std::uniform_real_distribution<float> uniform_{0, 1};
  std::normal_distribution<float> normal_;
};

int32_t any_vocab(Dice& dice, int round) {
  switch (round % 5) {
    case 0:
      return dice.pick(1, 40);
    case 1:
      return dice.pick(1000, 3000);
    case 2:
      return dice.pick(8000, 20000);
    case 3:
      return 1024 * dice.pick(1, 12) + dice.pick(-1, 1);
    default:
      return dice.pick(20000, 160000);
  }
}

template <typename T>
void fill_logits(Dice& dice, T* logits, int32_t vocab) {
  const float spread = dice.chance(.2f) ? 0.f : dice.chance(.2f) ? 20.f : 3.f;
  const float offset = dice.chance(.3f) ? dice.normal() * 30 : 0.f;
  const float grain = dice.chance(.25f) ? .5f : dice.chance(.25f) ? 1.f : 0.f;  // ties
  for (int32_t i = 0; i < vocab; i++) {
    float x = dice.normal() * spread + offset;
    if (grain > 0) x = std::round(x / grain) * grain;
    logits[i] = narrowed<T>(x);
  }
  const auto one = [&](float x) { logits[dice.pick(0, vocab - 1)] = narrowed<T>(x); };
  if (dice.chance(.2f))
    for (int32_t i = 0; i < vocab; i++)
      if (dice.chance(.5f)) logits[i] = narrowed<T>(-kInf);
  if (dice.chance(.03f)) one(NAN);
  if (dice.chance(.02f)) one(kInf);
  if (dice.chance(.02f))
    for (int32_t i = 0; i < vocab; i++) logits[i] = narrowed<T>(-kInf);
  if (dice.chance(.1f)) one(offset + 200);
}

SamplingParams any_params(Dice& dice, int32_t vocab) {
  SamplingParams params;
  params.seed = dice.bits();
  params.choice = dice.pick(0, 3);
  const float kind = dice.unit();
  params.temperature = kind < .15f   ? 0.f
                       : kind < .4f  ? 1.f
                       : kind < .45f ? 1e-40f
                       : kind < .5f  ? 1e-3f
                       : kind < .55f ? 50.f
                                     : .3f + dice.unit() * 1.5f;
  if (dice.chance(.5f))
    params.top_k = dice.chance(.3f) ? 1 : dice.chance(.6f) ? dice.pick(1, 60) : dice.pick(1, vocab);
  if (dice.chance(.5f))
    params.top_p = dice.chance(.1f)   ? 0.f
                   : dice.chance(.2f) ? 1e-6f
                   : dice.chance(.2f) ? .999999f
                                      : dice.unit();
  if (dice.chance(.3f))
    params.min_p = dice.chance(.2f)   ? 1.f
                   : dice.chance(.5f) ? dice.unit()
                                      : std::exp(-20 * dice.unit());
  if (dice.chance(.3f)) {
    params.presence_penalty = dice.unit() * 2;
    params.frequency_penalty = dice.unit() * 2 - 1;
  }
  if (dice.chance(.3f)) params.repetition_penalty = .5f + dice.unit();
  if (dice.chance(.3f))
    for (int i = dice.pick(1, 300); i > 0; i--)
      params.logit_bias.push_back({dice.pick(0, vocab - 1), dice.chance(.1f) ? 1e4f
                                                            : dice.chance(.1f)
                                                                ? -1e30f
                                                                : dice.normal() * 5});
  if (dice.chance(.3f)) {
    for (int i = dice.pick(1, 20); i > 0; i--) params.banned.push_back(dice.pick(0, vocab - 1));
    params.banned_until = dice.pick(0, 100);
  }
  return params;
}

template <typename T>
Batch<T> any_batch(Dice& dice, int32_t vocab, int32_t rows) {
  Batch<T> batch;
  batch.vocab = vocab;
  batch.stride = vocab + dice.pick(0, 9);
  batch.logits.assign(rows * batch.stride, narrowed<T>(NAN));  // between rows: must not be read
  batch.params.resize(rows);
  batch.counts.resize(rows);
  batch.tasks.resize(rows);
  for (int32_t r = 0; r < rows; r++) {
    fill_logits(dice, batch.logits.data() + r * batch.stride, vocab);
    batch.params[r] = any_params(dice, vocab);
    for (int i = dice.pick(0, 400); i > 0; i--) batch.counts[r].drawn[dice.pick(0, vocab - 1)]++;
    for (int i = dice.pick(0, 400); i > 0; i--) batch.counts[r].prompt[dice.pick(0, vocab - 1)]++;
    LogitsTask& task = batch.tasks[r];
    task.params = dice.chance(.05f) ? nullptr : &batch.params[r];
    task.counts = dice.chance(.8f) ? &batch.counts[r] : nullptr;
    task.position = dice.chance(.1f) ? int64_t{1} << 40 : dice.pick(0, 200);
    task.seat = rows - 1 - r;
  }
  return batch;
}

template <typename T>
int compare(uint32_t seed, int rounds) {
  Dice dice(seed);
  int drawn = 0;
  for (int round = 0; round < rounds; round++) {
    const Batch<T> batch = any_batch<T>(dice, any_vocab(dice, round), dice.pick(1, 12));
    const std::vector<int32_t> expected = batch.on_cpu();
    const auto [draws, last] = batch.on_gpu();
    for (int32_t r = 0; r < batch.rows(); r++) {
      CHECK_EQ(draws[r], expected[r]);
      CHECK_EQ(last[batch.tasks[r].seat], batch.tasks[r].params == nullptr ? -7 : expected[r]);
      drawn += expected[r] >= 0;
    }
  }
  return drawn;
}

TEST(draws_are_the_cpus_token_for_token) {
  check::need_gpu();
  int drawn = 0;
  drawn += compare<__nv_bfloat16>(1, 200);
  drawn += compare<__half>(2, 200);
  drawn += compare<float>(3, 200);
  CHECK(drawn > 3000);
}

TEST(rows_do_not_look_at_each_other) {
  check::need_gpu();
  Dice dice(4);
  const Batch<__nv_bfloat16> batch = any_batch<__nv_bfloat16>(dice, 152064, 64);
  const auto together = batch.on_gpu().first;
  CHECK(together == batch.on_gpu().first);
  for (const int32_t row : {0, 17, 63}) {
    Batch<__nv_bfloat16> alone = batch;
    alone.logits.assign(batch.logits.begin() + row * batch.stride,
                        batch.logits.begin() + (row + 1) * batch.stride);
    alone.tasks = {batch.tasks[row]};
    alone.tasks[0].seat = 0;
    CHECK_EQ(alone.on_gpu().first[0], together[row]);
  }
}

TEST(a_captured_graph_draws_by_the_parameters_of_its_launch) {
  check::need_gpu();
  Dice dice(5);
  constexpr int32_t kVocab = 50257, kRows = 8;
  const DeviceBuffer<char> workspace(draw_workspace_bytes(kRows, kVocab));
  const DeviceBuffer<__nv_bfloat16> logits(size_t{kRows} * kVocab);
  const DeviceBuffer<DrawRow> draw_rows(kRows);
  const DeviceBuffer<LogitEdit> edits(1 << 14);
  const DeviceBuffer<int32_t> last(kRows), draws(kRows);
  cudaStream_t stream;
  CUDA_CHECK(cudaStreamCreate(&stream));
  CUDA_CHECK(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
  draw(logits.data(), kVocab, kVocab, draw_rows.data(), edits.data(), kRows, true, last.data(),
       draws.data(), workspace.data(), stream);
  cudaGraph_t graph;
  CUDA_CHECK(cudaStreamEndCapture(stream, &graph));
  cudaGraphExec_t exec;
  CUDA_CHECK(cudaGraphInstantiate(&exec, graph, 0));
  for (int round = 0; round < 5; round++) {
    Batch<__nv_bfloat16> batch = any_batch<__nv_bfloat16>(dice, kVocab, kRows);
    std::vector<__nv_bfloat16> packed;
    for (int32_t r = 0; r < kRows; r++)
      packed.insert(packed.end(), batch.logits.begin() + r * batch.stride,
                    batch.logits.begin() + r * batch.stride + kVocab);
    std::vector<DrawRow> host_rows;
    std::vector<LogitEdit> host_edits;
    for (const LogitsTask& task : batch.tasks)
      host_rows.push_back(make_draw_row(task, kVocab, host_edits));
    CUDA_CHECK(cudaMemcpy(logits.data(), packed.data(), logits.bytes(), cudaMemcpyHostToDevice));
    CUDA_CHECK(
        cudaMemcpy(draw_rows.data(), host_rows.data(), draw_rows.bytes(), cudaMemcpyHostToDevice));
    CHECK(host_edits.size() <= edits.size());
    CUDA_CHECK(cudaMemcpy(edits.data(), host_edits.data(), host_edits.size() * sizeof(LogitEdit),
                          cudaMemcpyHostToDevice));
    CUDA_CHECK(cudaGraphLaunch(exec, stream));
    CUDA_CHECK(cudaStreamSynchronize(stream));
    CHECK(downloaded(draws, kRows) == batch.on_cpu());
  }
  CUDA_CHECK(cudaGraphExecDestroy(exec));
  CUDA_CHECK(cudaGraphDestroy(graph));
  CUDA_CHECK(cudaStreamDestroy(stream));
}

TEST(gathered_rows_are_the_logits_themselves) {
  check::need_gpu();
  Dice dice(6);
  const Batch<__half> batch = any_batch<__half>(dice, 9001, 5);
  const auto logits = uploaded(batch.logits);
  const std::vector<int32_t> wanted = {4, 0, 4};
  const auto rows = uploaded(wanted);
  const PinnedBuffer<float> out(wanted.size() * batch.vocab);
  gather_logits(logits.data(), batch.stride, batch.vocab, rows.data(), 3, out.data(), nullptr);
  CUDA_CHECK(cudaDeviceSynchronize());
  for (size_t i = 0; i < wanted.size(); i++) {
    for (int32_t j = 0; j < batch.vocab; j++) {
      const float expected = widened(batch.logits[wanted[i] * batch.stride + j]);
      const float actual = out.data()[i * batch.vocab + j];
      CHECK(actual == expected || (std::isnan(actual) && std::isnan(expected)));
    }
  }
}

}  // namespace
}  // namespace spotlight::gpu
