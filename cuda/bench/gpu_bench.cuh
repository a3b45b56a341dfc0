// What the GPU benchmarks share: device memory, timing by graphs, and the lines they print. A
// launch is timed inside a captured graph of many of them, each on the next of several buffers, so
// that neither launch gaps nor the L2 flatter it; medians over replays.
#pragma once

#include <cuda_runtime.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <functional>
#include <sstream>
#include <string>
#include <vector>

#include "device/cuda/runtime/device_memory.h"
#include "error.h"

namespace spotlight::bench {

template <typename T>
DeviceBuffer<T> on_device(const std::vector<T>& values) {
  DeviceBuffer<T> buffer(values.size());
  CUDA_CHECK(cudaMemcpy(buffer.data(), values.data(), buffer.bytes(), cudaMemcpyHostToDevice));
  return buffer;
}
template <typename T>
std::vector<T> on_host(const T* data, size_t count) {
  std::vector<T> values(count);
  CUDA_CHECK(cudaMemcpy(values.data(), data, count * sizeof(T), cudaMemcpyDeviceToHost));
  return values;
}

// Of a flag's value, between commas.
inline std::vector<std::string> words_of(const std::string& text) {
  std::vector<std::string> words;
  std::istringstream in(text);
  for (std::string word; std::getline(in, word, ',');) words.push_back(word);
  return words;
}

struct DeviceFacts {
  std::string name;
  int32_t multiprocessors = 0, capability = 0;  // 10 * major + minor
  size_t l2_bytes = 0, free_bytes = 0;
};

// Throws DEVICE_UNAVAILABLE without a GPU.
inline DeviceFacts open_gpu() {
  int count = 0;
  const cudaError_t status = cudaGetDeviceCount(&count);
  if (status != cudaSuccess || count == 0) {
    throw Error(kDeviceUnavailable,
                std::string("no GPU: ") +
                    (status == cudaSuccess ? "the driver shows none" : cudaGetErrorString(status)));
  }
  cudaDeviceProp properties;
  CUDA_CHECK(cudaGetDeviceProperties(&properties, 0));
  size_t free_bytes = 0, total = 0;
  CUDA_CHECK(cudaMemGetInfo(&free_bytes, &total));
  return {properties.name, properties.multiProcessorCount, 10 * properties.major + properties.minor,
          static_cast<size_t>(properties.l2CacheSize), free_bytes};
}

inline double median(std::vector<double> samples) {
  std::sort(samples.begin(), samples.end());
  return samples[samples.size() / 2];
}

// Enqueues the `visit`-th launch of a walk over all buffers on the stream.
using Launch = std::function<void(int32_t visit, cudaStream_t stream)>;

class Timer {
 public:
  Timer() {
    CUDA_CHECK(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking));
    CUDA_CHECK(cudaEventCreate(&begin_));
    CUDA_CHECK(cudaEventCreate(&end_));
  }
  ~Timer() {
    cudaEventDestroy(begin_);
    cudaEventDestroy(end_);
    cudaStreamDestroy(stream_);
  }
  Timer(const Timer&) = delete;
  Timer& operator=(const Timer&) = delete;
  cudaStream_t stream() const { return stream_; }

  // Runs it once for every visit and waits: what is broken breaks here, by name.
  void once(const Launch& launch, int32_t visits) const {
    for (int32_t visit = 0; visit < visits; visit++) launch(visit, stream_);
    CUDA_CHECK(cudaGetLastError());
    CUDA_CHECK(cudaStreamSynchronize(stream_));
  }

  // Median microseconds a visit over up to `repetitions` replays of a graph of all visits.
  // `before`, if there is one, makes every visit ready before a replay, untimed.
  double microseconds(const Launch& launch, int32_t visits, int32_t repetitions,
                      const Launch& before = nullptr) const {
    if (before) once(before, visits);
    once(launch, visits);
    CUDA_CHECK(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal));
    cudaGraph_t graph = nullptr;
    try {
      for (int32_t visit = 0; visit < visits; visit++) launch(visit, stream_);
    } catch (...) {
      cudaStreamEndCapture(stream_, &graph);
      cudaGraphDestroy(graph);
      throw;
    }
    CUDA_CHECK(cudaStreamEndCapture(stream_, &graph));
    cudaGraphExec_t runs = nullptr;
    const cudaError_t made = cudaGraphInstantiate(&runs, graph, 0);
    cudaGraphDestroy(graph);
    CUDA_CHECK(made);
    std::vector<double> samples;
    float spent = 0;
    for (int32_t i = -1; i < repetitions; i++) {  // the first one warms up
      if (before) once(before, visits);
      CUDA_CHECK(cudaEventRecord(begin_, stream_));
      CUDA_CHECK(cudaGraphLaunch(runs, stream_));
      CUDA_CHECK(cudaEventRecord(end_, stream_));
      CUDA_CHECK(cudaEventSynchronize(end_));
      float milliseconds = 0;
      CUDA_CHECK(cudaEventElapsedTime(&milliseconds, begin_, end_));
      if (i >= 0) samples.push_back(1e3 * milliseconds / visits);
      // Long launches need fewer of them: what a replay averages over is long already.
      spent += milliseconds;
      if (samples.size() >= 3 && spent > kEnoughMilliseconds) break;
    }
    cudaGraphExecDestroy(runs);
    return median(samples);
  }

 private:
  static constexpr float kEnoughMilliseconds = 500;
  cudaStream_t stream_ = nullptr;
  cudaEvent_t begin_ = nullptr, end_ = nullptr;
};

namespace detail {
__global__ void read_all(const uint4* data, size_t count, uint32_t* sink) {
  const size_t stride = static_cast<size_t>(gridDim.x) * blockDim.x * 4;
  uint32_t sum = 0;
  for (size_t i = static_cast<size_t>(blockIdx.x) * blockDim.x * 4 + threadIdx.x; i < count;
       i += stride) {
    uint4 loaded[4];
#pragma unroll
    for (int j = 0; j < 4; j++) {
      const size_t at = i + static_cast<size_t>(j) * blockDim.x;
      loaded[j] = at < count ? __ldcs(data + at) : uint4{0, 0, 0, 0};
    }
#pragma unroll
    for (int j = 0; j < 4; j++) sum ^= loaded[j].x ^ loaded[j].y ^ loaded[j].z ^ loaded[j].w;
  }
  if (sum == 0x12345679u) *sink = sum;  // never taken; keeps the loads
}
__global__ void fill_words(uint4* data, size_t count) {
  const size_t stride = static_cast<size_t>(gridDim.x) * blockDim.x;
  for (size_t i = static_cast<size_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < count;
       i += stride) {
    const auto x = static_cast<uint32_t>(i * 2654435761u);
    data[i] = {x, x ^ 0x9e3779b9u, x * 3u, ~x};
  }
}
}  // namespace detail

// Bytes a second that a plain read kernel gets from memory, over 2 GiB of non-zero words: what byte
// floors are counted at.
inline double read_bandwidth(const Timer& timer, const DeviceFacts& facts, int32_t repetitions) {
  const size_t bytes = size_t{2} << 30;
  DeviceBuffer<uint4> data(bytes / sizeof(uint4));
  DeviceBuffer<uint32_t> sink(1);
  detail::fill_words<<<facts.multiprocessors * 8, 256>>>(data.data(), data.size());
  CUDA_CHECK(cudaDeviceSynchronize());
  double best = 0;
  for (const int32_t blocks : {4, 8, 16, 32}) {
    const double us = timer.microseconds(
        [&](int32_t, cudaStream_t stream) {
          detail::read_all<<<facts.multiprocessors * blocks, 256, 0, stream>>>(
              data.data(), data.size(), sink.data());
        },
        4, repetitions);
    best = std::max(best, static_cast<double>(bytes) / (us * 1e-6));
  }
  return best;
}

inline std::string json_text(const std::string& text) {
  std::string quoted = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') quoted += '\\';
    quoted += static_cast<unsigned char>(c) < 0x20 ? ' ' : c;
  }
  return quoted + "\"";
}

// One measured figure; printed as one JSON object a line, as test/bench has them.
struct Line {
  std::string bench, name, metric;
  double value = 0;
  std::string unit;
  double baseline = 0;  // 0: none
  std::string device;
  std::string note;  // why a figure is absent or what it leaves out; empty: none
};

inline void print(const Line& line) {
  char value[32] = "null";  // what is not a number has no name in JSON
  if (std::isfinite(line.value)) std::snprintf(value, sizeof value, "%.6g", line.value);
  std::printf("{\"bench\":%s,\"case\":%s,\"metric\":%s,\"value\":%s,\"unit\":%s",
              json_text(line.bench).c_str(), json_text(line.name).c_str(),
              json_text(line.metric).c_str(), value, json_text(line.unit).c_str());
  if (line.baseline > 0)
    std::printf(",\"baseline\":%.6g,\"ratio\":%.6g", line.baseline, line.value / line.baseline);
  std::printf(",\"device\":%s", json_text(line.device).c_str());
  if (!line.note.empty()) std::printf(",\"note\":%s", json_text(line.note).c_str());
  std::printf("}\n");
  std::fflush(stdout);
}

}  // namespace spotlight::bench
