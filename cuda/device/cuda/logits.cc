#include "device/cuda/logits.h"

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <algorithm>
#include <cmath>

#include "sampling/logprobs/logprobs.h"
#include "sampling/softmax/softmax.h"

namespace spotlight {
namespace {

// Host memory for rows of logits, a step, and the least it holds: a decode step with
// log-probabilities shall not wait.
constexpr size_t kKeptBytes = size_t{64} << 20, kLeastKept = 32;
constexpr size_t kEditBytes = size_t{1} << 20;  // at first

bool scores(const LogitsTask& task) {
  return task.target >= 0 || (task.params != nullptr && task.params->logprobs >= 0);
}

bool has_cuts(const SamplingParams& params) {
  return params.temperature > 0 && (params.top_k > 0 || params.top_p < 1 || params.min_p > 0);
}

}  // namespace

template <typename T>
CudaLogits<T>::CudaLogits(int32_t vocab, int32_t piece, int32_t rows, int32_t seats)
    : vocab_(vocab),
      piece_(piece),
      rows_(rows),
      kept_rows_(
          std::min(std::max(kKeptBytes / (sizeof(float) * static_cast<size_t>(vocab)), kLeastKept),
                   static_cast<size_t>(rows))),
      stride_((int64_t{vocab} + 7) / 8 * 8),
      logits_(static_cast<size_t>(piece) * static_cast<size_t>(stride_)),
      last_draw_(static_cast<size_t>(seats)),
      draws_(static_cast<size_t>(rows)),
      workspace_(gpu::draw_workspace_bytes(piece, vocab)),
      edits_(kEditBytes) {
  CUDA_CHECK(cudaMemset(last_draw_.data(), 0, last_draw_.bytes()));
  CUDA_CHECK(cudaMemset(workspace_.data(), 0, workspace_.bytes()));
  for (Step& step : steps_) {
    step.draws = PinnedBuffer<int32_t>(static_cast<size_t>(rows));
    step.scored = PinnedBuffer<float>(kept_rows_ * static_cast<size_t>(vocab));
  }
}

template <typename T>
bool CudaLogits<T>::prepare(LogitsTask* tasks, int32_t count, int32_t padded, StepImage& image,
                            cudaStream_t stream) {
  Step& step = steps_[prepared_++ % 2];
  step.tasks = tasks;
  step.count = count;
  step.kept.clear();
  edit_list_.clear();
  scored_.clear();
  cuts_ = false;
  const auto rows = image.take<gpu::DrawRow>(static_cast<size_t>(padded));
  for (int32_t i = 0; i < count; i++) {
    rows.host[i] = gpu::make_draw_row(tasks[i], vocab_, edit_list_);
    cuts_ = cuts_ || (tasks[i].params != nullptr && has_cuts(*tasks[i].params));
    if (scores(tasks[i])) scored_.push_back(i);
  }
  std::fill(rows.host + count, rows.host + padded, gpu::DrawRow{});
  draw_rows_ = rows.device;

  // The edits have an image of their own: their number follows from no size of the step.
  bool moved = false;
  const size_t bytes = edit_list_.size() * sizeof(gpu::LogitEdit);
  if (bytes > edits_.size()) {
    CUDA_CHECK(cudaStreamSynchronize(stream));
    edits_ = StepImage(2 * bytes);
    moved = true;
  }
  edits_.begin();
  const auto edits = edits_.take<gpu::LogitEdit>(edit_list_.size());
  edit_rows_ = edits.device;
  if (!edit_list_.empty()) {
    std::copy(edit_list_.begin(), edit_list_.end(), edits.host);
    edits_.send(stream);
  }
  if (!scored_.empty()) {
    const auto places = image.take<int32_t>(scored_.size());
    for (size_t i = 0; i < scored_.size(); i++) places.host[i] = scored_[i] % piece_;
    scored_rows_ = places.device;
  }
  return moved;
}

template <typename T>
void CudaLogits<T>::draw(int32_t from, int32_t count, cudaStream_t stream) {
  gpu::draw<T>(logits_.data(), stride_, vocab_, draw_rows_ + from, edit_rows_, count, cuts_,
               last_draw_.data(), draws_.data() + from, workspace_.data(), stream);
}

template <typename T>
void CudaLogits<T>::keep_scored(int32_t from, int32_t count, cudaStream_t stream) {
  Step& step = steps_[(prepared_ - 1) % 2];
  auto next =
      static_cast<size_t>(std::lower_bound(scored_.begin(), scored_.end(), from) - scored_.begin());
  while (next < scored_.size() && scored_[next] < from + count) {
    if (step.kept.size() == kept_rows_) {
      send(stream);
      CUDA_CHECK(cudaStreamSynchronize(stream));
      score(step);
    }
    int32_t some = 0;
    const size_t room = kept_rows_ - step.kept.size(), first = next;
    while (next < scored_.size() && scored_[next] < from + count &&
           static_cast<size_t>(some) < room) {
      some++;
      next++;
    }
    float* out = step.scored.data() + step.kept.size() * static_cast<size_t>(vocab_);
    gpu::gather_logits<T>(logits_.data(), stride_, vocab_, scored_rows_ + first, some, out, stream);
    step.kept.insert(step.kept.end(), scored_.begin() + static_cast<std::ptrdiff_t>(first),
                     scored_.begin() + static_cast<std::ptrdiff_t>(next));
  }
}

template <typename T>
void CudaLogits<T>::send(cudaStream_t stream) {
  const Step& step = steps_[(prepared_ - 1) % 2];
  if (step.count == 0) return;
  CUDA_CHECK(cudaMemcpyAsync(step.draws.data(), draws_.data(),
                             static_cast<size_t>(step.count) * sizeof(int32_t),
                             cudaMemcpyDeviceToHost, stream));
}

// As run_logits_task does on the CPU, the draw excepted.
template <typename T>
void CudaLogits<T>::score(Step& step) {
  for (size_t i = 0; i < step.kept.size(); i++) {
    const float* row = step.scored.data() + i * static_cast<size_t>(vocab_);
    const int32_t index = step.kept[i];
    LogitsTask& task = step.tasks[index];
    const double lse = log_sum_exp(row, vocab_);
    task.finite = std::isfinite(lse);
    if (!task.finite) continue;
    if (task.target >= 0)
      task.target_logprobs =
          token_logprobs(row, vocab_, lse, task.target, task.target_top, scratch_);
    const int32_t token = step.draws.data()[index];
    if (task.params != nullptr && task.params->logprobs >= 0 && token >= 0)
      task.logprobs = token_logprobs(row, vocab_, lse, token, task.params->logprobs, scratch_);
  }
  step.kept.clear();
}

template <typename T>
void CudaLogits<T>::answer() {
  Step& step = steps_[answered_++ % 2];
  score(step);
  for (int32_t i = 0; i < step.count; i++) {
    LogitsTask& task = step.tasks[i];
    if (task.params == nullptr) continue;
    task.token = task.finite ? step.draws.data()[i] : -1;
    task.finite = task.token >= 0;
  }
}

template class CudaLogits<__nv_bfloat16>;
template class CudaLogits<__half>;

}  // namespace spotlight
