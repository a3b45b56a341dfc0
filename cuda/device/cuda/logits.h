// The end of a step: logits of selected rows, a piece of rows at a time, what is drawn from them,
// and log-probabilities. Draws stay on the device by seat for the next step and come to the host
// with the step's end. Log-probabilities are worked out on the host from rows of logits sent there
// (sampling/logprobs), since few requests ask for them.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <functional>
#include <vector>

#include "device/cuda/runtime/device_memory.h"
#include "device/cuda/step_image.h"
#include "sampling/gpu/sampling_gpu.h"
#include "sampling/sampling.h"

namespace spotlight {

template <typename T>
class CudaLogits {
 public:
  // piece: rows of logits in memory at once, a padded size; rows: most rows of a step.
  CudaLogits(int32_t vocab, int32_t piece, int32_t rows, int32_t seats);

  int32_t piece() const { return piece_; }
  T* logits() const { return logits_.data(); }  // [piece, stride()]
  int64_t stride() const { return stride_; }
  const int32_t* last_draws() const { return last_draw_.data(); }  // [seats]

  // Host side of a step of `count` tasks, of `padded` rows: fills its parts of the image. Returns
  // whether the edits have moved, so that graphs captured before are void.
  bool prepare(LogitsTask* tasks, int32_t count, int32_t padded, StepImage& image,
               cudaStream_t stream);
  // Whether any row has top-k, top-p or min-p in force: part of a graph's key.
  bool cuts() const { return cuts_; }

  // Draws from the logits of rows [from, from + count) of the step.
  void draw(int32_t from, int32_t count, cudaStream_t stream);
  // Sends those of them to the host whose log-probabilities are wanted; waits when there are more
  // than it keeps, as long prompts have.
  void keep_scored(int32_t from, int32_t count, cudaStream_t stream);
  // Behind the last draw: the draws to the host.
  void send(cudaStream_t stream);
  // After the step's end: its tasks' answers. Steps are answered in the order of prepare().
  void answer();

 private:
  // One of the two steps in flight.
  struct Step {
    LogitsTask* tasks = nullptr;
    int32_t count = 0;
    PinnedBuffer<int32_t> draws;  // [rows]
    PinnedBuffer<float> scored;   // [kept_rows_, vocab]
    std::vector<int32_t> kept;    // rows in `scored`
  };
  void score(Step& step);

  int32_t vocab_, piece_, rows_;
  size_t kept_rows_;  // of logits that a step keeps on the host
  int64_t stride_;
  DeviceBuffer<T> logits_;
  DeviceBuffer<int32_t> last_draw_, draws_;
  DeviceBuffer<std::byte> workspace_;
  StepImage edits_;
  std::vector<gpu::LogitEdit> edit_list_;
  const gpu::DrawRow* draw_rows_ = nullptr;
  const gpu::LogitEdit* edit_rows_ = nullptr;
  const int32_t* scored_rows_ = nullptr;  // on the device: places in the piece, in order of rows
  std::vector<int32_t> scored_;           // rows of the step
  bool cuts_ = false;
  Step steps_[2];
  int prepared_ = 0, answered_ = 0;
  SamplingScratch scratch_;
};

}  // namespace spotlight
