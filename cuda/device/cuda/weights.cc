#include "device/cuda/weights.h"

#include <ggml.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <exception>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <system_error>
#include <thread>

#include "device/cuda/stream.h"
#include "error.h"

namespace spotlight {
namespace {

constexpr int64_t kPiece = 1 << 22;  // values a thread turns and sends at once, at least one row
constexpr unsigned kMostThreads = 8;

// `count` values, starting at a row of the file's type.
void turn(const WeightView& view, int64_t row, int64_t rows, Dtype dtype, std::vector<float>& wide,
          uint16_t* out) {
  const auto type = static_cast<ggml_type>(view.ggml_type);
  const auto* from =
      static_cast<const std::byte*>(view.data) + row * ggml_row_size(type, view.cols);
  const int64_t count = rows * view.cols;
  const ggml_type wanted = dtype == Dtype::kBf16 ? GGML_TYPE_BF16 : GGML_TYPE_F16;
  if (type == wanted) {
    std::memcpy(out, from, static_cast<size_t>(count) * sizeof *out);
    return;
  }
  const float* values = reinterpret_cast<const float*>(from);
  if (type != GGML_TYPE_F32) {
    const ggml_to_float_t to_float = ggml_get_type_traits(type)->to_float;
    if (to_float == nullptr)
      throw Error(kModelUnsupported, std::string("weights of type ") + ggml_type_name(type) +
                                         " cannot be turned into 16-bit floats");
    wide.resize(static_cast<size_t>(count));
    to_float(from, wide.data(), count);
    values = wide.data();
  }
  if (dtype == Dtype::kBf16) {
    ggml_fp32_to_bf16_row(values, reinterpret_cast<ggml_bf16_t*>(out), count);
  } else {
    ggml_fp32_to_fp16_row(values, reinterpret_cast<ggml_fp16_t*>(out), count);
  }
}

}  // namespace

// One thread's pinned memory: two pieces, one being made while the other goes up.
class CudaWeights::Uploader {
 public:
  Uploader() {
    const unsigned threads = std::clamp(std::thread::hardware_concurrency(), 1u, kMostThreads);
    for (unsigned i = 0; i < threads; i++) lanes_.push_back(std::make_unique<Lane>());
    CUDA_CHECK(cudaGetDevice(&device_));
  }

  struct Piece {
    const WeightView* view;
    int64_t row, rows;
    uint16_t* to;  // device
  };

  void run(const std::vector<Piece>& pieces, Dtype dtype) {
    std::atomic<size_t> next{0};
    std::exception_ptr fault;
    std::mutex mutex;
    const auto work = [&](Lane& lane) {
      try {
        CUDA_CHECK(cudaSetDevice(device_));
        for (size_t i; (i = next.fetch_add(1)) < pieces.size();) lane.send(pieces[i], dtype);
        CUDA_CHECK(cudaStreamSynchronize(lane.stream.get()));
      } catch (...) {
        const std::lock_guard<std::mutex> lock(mutex);
        fault = std::current_exception();
        next = pieces.size();
      }
    };
    std::vector<std::thread> helpers;
    const size_t width = std::min(lanes_.size(), pieces.size());
    try {
      for (size_t i = 1; i < width; i++) helpers.emplace_back([&, i] { work(*lanes_[i]); });
    } catch (const std::system_error&) {
      // No more threads to be had: those there are do the work.
    }
    work(*lanes_[0]);
    for (std::thread& helper : helpers) helper.join();
    if (fault != nullptr) std::rethrow_exception(fault);
  }

 private:
  struct Lane {
    void send(const Piece& piece, Dtype dtype) {
      const auto count = static_cast<size_t>(piece.rows * piece.view->cols);
      PinnedBuffer<uint16_t>& buffer = pinned[turn_];
      CUDA_CHECK(cudaEventSynchronize(sent[turn_].get()));
      if (buffer.size() < count) {
        buffer = {};
        buffer = PinnedBuffer<uint16_t>(count);
      }
      turn(*piece.view, piece.row, piece.rows, dtype, wide, buffer.data());
      CUDA_CHECK(cudaMemcpyAsync(piece.to, buffer.data(), count * sizeof(uint16_t),
                                 cudaMemcpyHostToDevice, stream.get()));
      CUDA_CHECK(cudaEventRecord(sent[turn_].get(), stream.get()));
      turn_ = 1 - turn_;
    }

    CudaStream stream;
    CudaEvent sent[2];
    PinnedBuffer<uint16_t> pinned[2];
    std::vector<float> wide;
    int turn_ = 0;
  };

  int device_ = 0;
  std::vector<std::unique_ptr<Lane>> lanes_;
};

// Matrices in pinned memory and a ring of places for them on the device. Products come in the same
// order every step: which follows which is learnt in the first, and later ones are sent ahead while
// the GPU computes.
class CudaWeights::Stream {
 public:
  void add(int32_t id, PinnedBuffer<uint16_t> values) {
    largest_ = std::max(largest_, values.size());
    matrices_[id].values = std::move(values);
  }
  bool holds(int32_t id) const { return matrices_.count(id) > 0; }
  // No more come: takes the places.
  void open() {
    for (Place& place : places_) place.memory = DeviceBuffer<uint16_t>(largest_);
  }

  const uint16_t* ready(int32_t id, cudaStream_t stream) {
    // What was launched since the last call reads the place given then.
    if (last_ >= 0) {
      CUDA_CHECK(cudaEventRecord(places_[matrices_[last_].place].used.get(), stream));
      matrices_[last_].next = id;
    }
    Matrix& matrix = matrices_[id];
    if (matrix.place < 0) fetch(id);
    const Place& place = places_[matrix.place];
    CUDA_CHECK(cudaStreamWaitEvent(stream, place.loaded.get(), 0));
    last_ = id;
    int32_t ahead = id;
    for (int32_t i = 0; i < kAhead; i++) {
      ahead = matrices_[ahead].next;
      if (ahead < 0 || ahead == id) break;
      if (matrices_[ahead].place < 0) fetch(ahead);
    }
    return place.memory.data();
  }

 private:
  static constexpr int32_t kPlaces = 5, kAhead = 3;
  struct Matrix {
    PinnedBuffer<uint16_t> values;
    int32_t place = -1, next = -1;
  };
  struct Place {
    DeviceBuffer<uint16_t> memory;
    CudaEvent loaded, used;
    int32_t matrix = -1;
  };

  // Places are taken in turn. The one whose turn it is holds a matrix that was asked for before the
  // last one: at most kAhead were fetched since, and there are two places more.
  void fetch(int32_t id) {
    Place& place = places_[turn_];
    if (place.matrix >= 0) matrices_[place.matrix].place = -1;
    Matrix& matrix = matrices_[id];
    CUDA_CHECK(cudaStreamWaitEvent(copies_.get(), place.used.get(), 0));
    CUDA_CHECK(cudaMemcpyAsync(place.memory.data(), matrix.values.data(), matrix.values.bytes(),
                               cudaMemcpyHostToDevice, copies_.get()));
    CUDA_CHECK(cudaEventRecord(place.loaded.get(), copies_.get()));
    place.matrix = id;
    matrix.place = turn_;
    turn_ = (turn_ + 1) % kPlaces;
  }

  std::map<int32_t, Matrix> matrices_;
  Place places_[kPlaces];
  CudaStream copies_;
  size_t largest_ = 0;
  int32_t last_ = -1, turn_ = 0;
};

CudaWeights::CudaWeights(Dtype dtype, bool streamed, int64_t vocab)
    : dtype_(dtype), streamed_(streamed), vocab_(vocab) {
  if (streamed_) stream_ = std::make_unique<Stream>();
}
CudaWeights::~CudaWeights() = default;

const uint16_t* CudaWeights::ready(Weight weight, cudaStream_t stream) {
  if (stream_ == nullptr || !stream_->holds(weight.id)) return at(weight);
  return stream_->ready(weight.id, stream);
}

Weight CudaWeights::load(const std::vector<const WeightView*>& views) {
  if (uploader_ == nullptr) uploader_ = std::make_unique<Uploader>();
  const bool vector = views[0]->rows == 1;
  int64_t rows = 0, cols = 0, count = 0;
  for (const WeightView* view : views) {
    rows += view->rows;
    cols += view->cols;
    count += view->rows * view->cols;
  }
  const auto id = static_cast<int32_t>(weights_.size());
  if (streamed_ && !vector && rows != vocab_) {
    PinnedBuffer<uint16_t> values(static_cast<size_t>(count));
    std::vector<float> wide;
    uint16_t* out = values.data();
    for (const WeightView* view : views) {
      const int64_t step = std::max<int64_t>(1, kPiece / view->cols);
      for (int64_t row = 0; row < view->rows; row += step) {
        const int64_t some = std::min(step, view->rows - row);
        turn(*view, row, some, dtype_, wide, out);
        out += some * view->cols;
      }
    }
    stream_->add(id, std::move(values));
    weights_.emplace_back();
    return {id, rows, views[0]->cols};
  }
  DeviceBuffer<uint16_t> memory(static_cast<size_t>(count));
  std::vector<Uploader::Piece> pieces;
  uint16_t* to = memory.data();
  for (const WeightView* view : views) {
    const int64_t step = std::max<int64_t>(1, kPiece / view->cols);
    for (int64_t row = 0; row < view->rows; row += step) {
      const int64_t some = std::min(step, view->rows - row);
      pieces.push_back({view, row, some, to});
      to += some * view->cols;
    }
  }
  uploader_->run(pieces, dtype_);
  weights_.push_back(std::move(memory));
  return vector ? Weight{id, 1, cols} : Weight{id, rows, views[0]->cols};
}

void CudaWeights::loaded() {
  uploader_.reset();
  if (stream_ != nullptr) stream_->open();
}

}  // namespace spotlight
