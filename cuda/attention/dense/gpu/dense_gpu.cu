#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <string>

#include "attention/dense/gpu/dense_gpu.h"
#include "attention/dense/gpu/launch.h"
#include "attention/dense/gpu/merge.cuh"
#include "device/cuda/runtime/device_memory.h"
#include "error.h"

namespace spotlight::gpu {
namespace {

constexpr int kUploads = 4;  // in flight at once

// Arrays side by side, each from a multiple of 16 bytes on: the same places in pinned memory, where
// they are written, and on the device, where kernels read them.
class Packer {
 public:
  Packer(char* host, const char* device, size_t capacity)
      : host_(host), device_(device), capacity_(capacity) {}

  template <typename N>
  const N* put(const std::vector<N>& values) {
    const size_t size = values.size() * sizeof(N);
    if (used_ + size > capacity_)
      throw Error(kInternal, "a dense plan of " + std::to_string(used_ + size) +
                                 " bytes is larger than its buffer of " +
                                 std::to_string(capacity_));
    std::memcpy(host_ + used_, values.data(), size);
    const char* place = device_ + used_;
    used_ = (used_ + size + 15) / 16 * 16;
    return reinterpret_cast<const N*>(place);
  }
  size_t used() const { return used_; }

 private:
  char* host_;
  const char* device_;
  size_t capacity_, used_ = 0;
};

int32_t attribute(cudaDeviceAttr which) {
  int device = 0, value = 0;
  CUDA_CHECK(cudaGetDevice(&device));
  CUDA_CHECK(cudaDeviceGetAttribute(&value, which, device));
  return value;
}

void check_shape(const DenseShape& shape) {
  const auto refuse = [](const std::string& what) { throw Error(kModelUnsupported, what); };
  const int32_t dims[] = {64, 96, 128, 256};
  if (std::find(std::begin(dims), std::end(dims), shape.head_dim) == std::end(dims))
    refuse("head_dim " + std::to_string(shape.head_dim) +
           " has no dense attention on a GPU; there are 64, 96, 128 and 256");
  if (shape.kv_heads <= 0 || shape.query_heads % shape.kv_heads != 0 ||
      shape.query_heads / shape.kv_heads > 16)
    refuse("query_heads " + std::to_string(shape.query_heads) + " must be 1 to 16 times kv_heads " +
           std::to_string(shape.kv_heads));
  if (int64_t{shape.seats} * shape.table_stride >= int64_t{1} << 25)
    throw Error(
        kInvalidArgument,
        "block tables of " + std::to_string(shape.seats) + " sequences by " +
            std::to_string(shape.table_stride) +
            " blocks are beyond dense attention on a GPU: serve fewer sequences or shorter ones");
}

}  // namespace

struct DensePlan::State {
  DenseShape shape;
  int32_t multiprocessors = 0;
  bool hopper = false;  // FlashAttention 3 serves prefill

  DeviceBuffer<char> lists;
  DeviceBuffer<float> values, lse;
  struct Upload {
    PinnedBuffer<char> lists;
    cudaEvent_t done = nullptr;
  };
  std::array<Upload, kUploads> uploads;
  int next_upload = 0;

  DecodeSchedule decode_schedule;
  PrefillSchedule prefill_schedule;
  TileSchedule tile_schedule;
  DecodePieces pieces;
  PrefillWork work;
  PrefillTiles tiles;
  bool decodes = false, prefills = false;
};

DensePlan::DensePlan(const DenseShape& shape) : state_(std::make_unique<State>()) {
  check_shape(shape);
  State& state = *state_;
  state.shape = shape;
  state.multiprocessors = attribute(cudaDevAttrMultiProcessorCount);
  state.hopper = attribute(cudaDevAttrComputeCapabilityMajor) == 9 && shape.head_dim != 96 &&
                 shape.hopper_prefill;
  const size_t most = most_pieces(shape, state.multiprocessors, shape.max_rows);
  state.values = DeviceBuffer<float>(most * shape.query_heads * shape.head_dim);
  state.lse = DeviceBuffer<float>(most * shape.query_heads);

  const size_t group = shape.query_heads / shape.kv_heads;
  const size_t tile = hopper_tile(shape.head_dim);
  const size_t work =
      state.hopper ? 7 * shape.query_heads * (shape.max_tokens / tile + shape.max_rows) +
                         state.multiprocessors + 1
                   : 3 * (group * shape.max_tokens / ampere_tile(shape.head_dim) + shape.max_rows) +
                         4 * shape.max_rows + 1;
  const size_t arrays = 20;
  const size_t bytes = sizeof(int32_t) * (4 * (shape.max_rows + 1) + 4 * most + work) + 16 * arrays;
  state.lists = DeviceBuffer<char>(bytes);
  for (State::Upload& upload : state.uploads) {
    upload.lists = PinnedBuffer<char>(bytes);
    CUDA_CHECK(cudaEventCreateWithFlags(&upload.done, cudaEventDisableTiming));
  }
}

DensePlan::~DensePlan() {
  for (State::Upload& upload : state_->uploads)
    if (upload.done != nullptr) cudaEventDestroy(upload.done);
}

bool DensePlan::empty() const { return !state_->decodes && !state_->prefills; }

void DensePlan::set(const DenseRow* rows, int32_t count, int32_t bucket, cudaStream_t stream) {
  State& state = *state_;
  const DenseShape& shape = state.shape;
  const int32_t single = static_cast<int32_t>(
      std::count_if(rows, rows + count, [](const DenseRow& row) { return row.tokens == 1; }));
  if (bucket != 0 && (single != count || count > bucket))
    throw Error(kInternal, "a dense plan of bucket " + std::to_string(bucket) + " got " +
                               std::to_string(count) + " rows, " + std::to_string(single) +
                               " of them of one token");
  if (bucket == 0) bucket = single;
  if (bucket > shape.max_rows)
    throw Error(kInternal, "a dense plan of at most " + std::to_string(shape.max_rows) +
                               " rows got " + std::to_string(bucket));
  state.decodes = bucket > 0;
  state.prefills = count > single;
  if (empty()) return;

  State::Upload& upload = state.uploads[state.next_upload];
  state.next_upload = (state.next_upload + 1) % kUploads;
  CUDA_CHECK(cudaEventSynchronize(upload.done));
  Packer packer(upload.lists.data(), state.lists.data(), state.lists.bytes());
  if (state.decodes) {
    // First, so that their places depend on the bucket alone.
    DecodeSchedule& plan = state.decode_schedule;
    schedule_decode(shape, state.multiprocessors, rows, count, bucket, plan);
    DecodePieces& pieces = state.pieces;
    pieces.token = packer.put(plan.token);
    pieces.context = packer.put(plan.context);
    pieces.table = packer.put(plan.table);
    pieces.part = packer.put(plan.part);
    pieces.row = packer.put(plan.piece_row);
    pieces.chunk = packer.put(plan.piece_chunk);
    pieces.valid = packer.put(plan.piece_valid);
    pieces.zero = packer.put(std::vector<int32_t>(plan.piece_row.size(), 0));
    pieces.chunk_tokens = packer.put(std::vector<int32_t>{plan.chunk_tokens});
    pieces.values = state.values.data();
    pieces.lse = state.lse.data();
    pieces.pieces = static_cast<int32_t>(plan.piece_row.size());
    pieces.rows = bucket;
  }
  if (state.prefills && state.hopper) {
    PrefillSchedule& plan = state.prefill_schedule;
    schedule_prefill(shape, state.multiprocessors, hopper_tile(shape.head_dim), rows, count, plan);
    state.work.work_start = packer.put(plan.work_start);
    state.work.tile = packer.put(plan.tile);
    state.work.head = packer.put(plan.head);
    state.work.first = packer.put(plan.first);
    state.work.tokens = packer.put(plan.tokens);
    state.work.context = packer.put(plan.context);
    state.work.table = packer.put(plan.table);
    state.work.row = packer.put(plan.row);
  } else if (state.prefills) {
    TileSchedule& plan = state.tile_schedule;
    schedule_tiles(shape, ampere_tile(shape.head_dim), rows, count, plan);
    state.tiles.row = packer.put(plan.row);
    state.tiles.tile = packer.put(plan.tile);
    state.tiles.first = packer.put(plan.first);
    state.tiles.tokens = packer.put(plan.tokens);
    state.tiles.context = packer.put(plan.context);
    state.tiles.table = packer.put(plan.table);
    state.tiles.zero = packer.put(std::vector<int32_t>(plan.row.size(), 0));
    state.tiles.tiles = static_cast<int32_t>(plan.row.size());
    state.tiles.rows = static_cast<int32_t>(plan.first.size());
  }
  CUDA_CHECK(cudaMemcpyAsync(state.lists.data(), upload.lists.data(), packer.used(),
                             cudaMemcpyHostToDevice, stream));
  CUDA_CHECK(cudaEventRecord(upload.done, stream));
}

namespace {

template <typename T, int D>
void attend(const DensePlan::State& state, const DenseTensors<T>& tensors, cudaStream_t stream) {
  if (state.prefills) {
    if constexpr (D != 96) {
      if (state.hopper)
        prefill_hopper<T, D>(tensors, state.work, stream);
      else
        prefill_ampere<T, D>(tensors, state.tiles, stream);
    } else {
      prefill_ampere<T, D>(tensors, state.tiles, stream);
    }
  }
  if (state.decodes) {
    decode_pieces<T, D>(tensors, state.pieces, stream);
    merge_pieces<T, D>
        <<<dim3(state.pieces.rows, tensors.query_heads), 32 * kMergeWarps, 0, stream>>>(
            state.pieces, tensors.out, tensors.query_heads);
    CUDA_CHECK_LAUNCH("merge_pieces");
  }
}

}  // namespace

template <typename T>
void dense_attention(const DensePlan& plan, const Cache<T>& cache, const int32_t* tables,
                     const T* q, int64_t q_stride, T* out, int32_t tokens, cudaStream_t stream) {
  const DensePlan::State& state = plan.state();
  const DenseShape& shape = state.shape;
  DenseTensors<T> tensors;
  tensors.k = cache.k;
  tensors.v = cache.v;
  tensors.tables = tables;
  tensors.q = q;
  tensors.q_stride = q_stride;
  tensors.out = out;
  tensors.query_heads = shape.query_heads;
  tensors.kv_heads = shape.kv_heads;
  tensors.tokens = tokens;
  tensors.scale = 1.f / std::sqrt(static_cast<float>(shape.head_dim));
  switch (shape.head_dim) {
    case 64:
      return attend<T, 64>(state, tensors, stream);
    case 96:
      return attend<T, 96>(state, tensors, stream);
    case 128:
      return attend<T, 128>(state, tensors, stream);
    default:
      return attend<T, 256>(state, tensors, stream);
  }
}

template void dense_attention<__nv_bfloat16>(const DensePlan&, const Cache<__nv_bfloat16>&,
                                             const int32_t*, const __nv_bfloat16*, int64_t,
                                             __nv_bfloat16*, int32_t, cudaStream_t);
template void dense_attention<__half>(const DensePlan&, const Cache<__half>&, const int32_t*,
                                      const __half*, int64_t, __half*, int32_t, cudaStream_t);

}  // namespace spotlight::gpu
