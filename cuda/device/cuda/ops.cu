#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <algorithm>
#include <flashinfer/math.cuh>
#include <flashinfer/norm.cuh>

#include "device/cuda/ops.h"
#include "device/cuda/runtime/cuda_error.h"

namespace spotlight::gpu {
namespace {

constexpr int kThreads = 128;
constexpr int kLane = 8;  // values a thread moves at once, 16 bytes

template <typename T>
struct alignas(16) Lane {
  T values[kLane];
};

template <typename T>
__device__ Lane<T> load(const T* at) {
  return *reinterpret_cast<const Lane<T>*>(at);
}
template <typename T>
__device__ void store(T* at, const Lane<T>& lane) {
  *reinterpret_cast<Lane<T>*>(at) = lane;
}

// A thread's first column, and its row: rows lie along x, whose limit no step reaches.
__device__ int64_t column() { return (int64_t{blockIdx.y} * kThreads + threadIdx.x) * kLane; }

dim3 grid_for(int64_t columns, int32_t rows) {
  constexpr int64_t kPiece = int64_t{kThreads} * kLane;
  return dim3(static_cast<unsigned>(rows), static_cast<unsigned>((columns + kPiece - 1) / kPiece));
}

__device__ void wait_for_inputs() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

template <typename... Parameters, typename... Arguments>
void launch(Queue queue, void (*kernel)(Parameters...), dim3 grid, const Arguments&... arguments) {
  cudaLaunchAttribute early = {};
  early.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  early.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config = {};
  config.gridDim = grid;
  config.blockDim = dim3(kThreads);
  config.stream = queue.stream;
  config.attrs = &early;
  config.numAttrs = queue.early ? 1 : 0;
  CUDA_CHECK(cudaLaunchKernelEx(&config, kernel, arguments...));
}

template <typename T>
__global__ void __launch_bounds__(kThreads)
    embed_kernel(const T* table, const int32_t* ids, const int32_t* feeds, const int32_t* draws,
                 Rows<T> out) {
  wait_for_inputs();
  const int32_t row = blockIdx.x;
  const int64_t at = column();
  if (at >= out.columns) return;
  const int32_t seat = feeds[row];
  const int64_t id = max(seat < 0 ? ids[row] : draws[seat], 0);
  store(out.data + row * out.stride + at, load(table + id * out.columns + at));
}

template <typename T>
__global__ void __launch_bounds__(kThreads) silu_mul_kernel(Rows<T> gate, Rows<T> up, Rows<T> out) {
  wait_for_inputs();
  const int64_t row = blockIdx.x, at = column();
  if (at >= out.columns) return;
  const Lane<T> g = load(gate.data + row * gate.stride + at);
  const Lane<T> u = load(up.data + row * up.stride + at);
  Lane<T> result;
#pragma unroll
  for (int i = 0; i < kLane; i++) {
    const float x = static_cast<float>(g.values[i]);
    result.values[i] = static_cast<T>(x / (1.f + __expf(-x)) * static_cast<float>(u.values[i]));
  }
  store(out.data + row * out.stride + at, result);
}

template <typename T>
__global__ void __launch_bounds__(kThreads) add_kernel(Rows<T> a, Rows<T> b, Rows<T> out) {
  wait_for_inputs();
  const int64_t row = blockIdx.x, at = column();
  if (at >= out.columns) return;
  const Lane<T> x = load(a.data + row * a.stride + at);
  const Lane<T> y = load(b.data + row * b.stride + at);
  Lane<T> sum;
#pragma unroll
  for (int i = 0; i < kLane; i++)
    sum.values[i] =
        static_cast<T>(static_cast<float>(x.values[i]) + static_cast<float>(y.values[i]));
  store(out.data + row * out.stride + at, sum);
}

template <typename T>
__global__ void __launch_bounds__(kThreads)
    gather_kernel(Rows<T> x, const int32_t* index, Rows<T> out) {
  wait_for_inputs();
  const int64_t row = blockIdx.x, at = column();
  if (at >= out.columns) return;
  store(out.data + row * out.stride + at, load(x.data + int64_t{index[row]} * x.stride + at));
}

__global__ void __launch_bounds__(kThreads)
    table_kernel(const TableRun* runs, const int32_t* entries, int32_t* tables, int32_t stride) {
  const TableRun run = runs[blockIdx.x];
  int32_t* to = tables + int64_t{run.seat} * stride + run.from;
  for (int32_t i = blockIdx.y * kThreads + threadIdx.x; i < run.count; i += gridDim.y * kThreads)
    to[i] = entries[run.offset + i];
}

__global__ void __launch_bounds__(kThreads)
    copy_kernel(const uint4* from, uint4* to, size_t count, size_t pitch) {
  const size_t base = blockIdx.x * pitch;
  for (size_t i = blockIdx.y * kThreads + threadIdx.x; i < count; i += gridDim.y * kThreads)
    to[base + i] = from[base + i];
}

__global__ void trap_kernel() { __trap(); }

}  // namespace

template <typename T>
void embed(const T* table, const int32_t* ids, const int32_t* feeds, const int32_t* draws,
           int32_t rows, Rows<T> out, Queue queue) {
  launch(queue, embed_kernel<T>, grid_for(out.columns, rows), table, ids, feeds, draws, out);
}

template <typename T>
void rms_norm(Rows<T> x, const T* gain, float epsilon, int32_t rows, Rows<T> out, Queue queue) {
  const cudaError_t status = flashinfer::norm::RMSNorm<T>(
      x.data, const_cast<T*>(gain), out.data, static_cast<uint32_t>(rows),
      static_cast<uint32_t>(x.columns), static_cast<uint32_t>(x.stride),
      static_cast<uint32_t>(out.stride), epsilon, queue.early, queue.stream);
  check_cuda(status, "rms_norm", __FILE__, __LINE__);
}

template <typename T>
void add_rms_norm(Rows<T> residual, Rows<T> x, const T* gain, float epsilon, int32_t rows,
                  Queue queue) {
  const cudaError_t status = flashinfer::norm::FusedAddRMSNorm<T>(
      x.data, residual.data, const_cast<T*>(gain), static_cast<uint32_t>(rows),
      static_cast<uint32_t>(x.columns), static_cast<uint32_t>(x.stride),
      static_cast<uint32_t>(residual.stride), epsilon, queue.early, queue.stream);
  check_cuda(status, "add_rms_norm", __FILE__, __LINE__);
}

template <typename T>
void head_norm(Rows<T> x, const T* gain, int32_t head_dim, float epsilon, int32_t rows,
               Queue queue) {
  const auto stride = static_cast<uint32_t>(x.stride), dim = static_cast<uint32_t>(head_dim);
  const cudaError_t status = flashinfer::norm::QKRMSNorm<T>(
      x.data, const_cast<T*>(gain), x.data, static_cast<uint32_t>(rows),
      static_cast<uint32_t>(x.columns / head_dim), dim, stride, dim, stride, dim, epsilon,
      queue.early, queue.stream);
  check_cuda(status, "head_norm", __FILE__, __LINE__);
}

template <typename T>
void silu_mul(Rows<T> gate, Rows<T> up, int32_t rows, Rows<T> out, Queue queue) {
  launch(queue, silu_mul_kernel<T>, grid_for(out.columns, rows), gate, up, out);
}

template <typename T>
void add(Rows<T> a, Rows<T> b, int32_t rows, Rows<T> out, Queue queue) {
  launch(queue, add_kernel<T>, grid_for(out.columns, rows), a, b, out);
}

template <typename T>
void gather(Rows<T> x, const int32_t* index, int32_t rows, Rows<T> out, Queue queue) {
  launch(queue, gather_kernel<T>, grid_for(out.columns, rows), x, index, out);
}

void update_tables(const TableRun* runs, int32_t run_count, const int32_t* entries, int32_t longest,
                   int32_t* tables, int32_t stride, cudaStream_t stream) {
  const int32_t pieces = std::clamp((longest + kThreads - 1) / kThreads, 1, 64);
  const dim3 grid(static_cast<unsigned>(run_count), static_cast<unsigned>(pieces));
  table_kernel<<<grid, kThreads, 0, stream>>>(runs, entries, tables, stride);
  CUDA_CHECK_LAUNCH("update_tables");
}

void copy_block(const std::byte* from, std::byte* to, size_t bytes, size_t pitch, int32_t layers,
                cudaStream_t stream) {
  const size_t count = bytes / sizeof(uint4);
  const auto pieces =
      static_cast<unsigned>(std::min<size_t>((count + kThreads - 1) / kThreads, 64));
  copy_kernel<<<dim3(static_cast<unsigned>(layers), pieces), kThreads, 0, stream>>>(
      reinterpret_cast<const uint4*>(from), reinterpret_cast<uint4*>(to), count,
      pitch / sizeof(uint4));
  CUDA_CHECK_LAUNCH("copy_block");
}

int32_t compiled_capability() {
  cudaFuncAttributes attributes = {};
  CUDA_CHECK(cudaFuncGetAttributes(&attributes, trap_kernel));
  return attributes.ptxVersion;
}

void trap(cudaStream_t stream) {
  trap_kernel<<<1, 1, 0, stream>>>();
  CUDA_CHECK_LAUNCH("trap");
}

#define SPOTLIGHT_OPS(T)                                                                    \
  template void embed<T>(const T*, const int32_t*, const int32_t*, const int32_t*, int32_t, \
                         Rows<T>, Queue);                                                   \
  template void rms_norm<T>(Rows<T>, const T*, float, int32_t, Rows<T>, Queue);             \
  template void add_rms_norm<T>(Rows<T>, Rows<T>, const T*, float, int32_t, Queue);         \
  template void head_norm<T>(Rows<T>, const T*, int32_t, float, int32_t, Queue);            \
  template void silu_mul<T>(Rows<T>, Rows<T>, int32_t, Rows<T>, Queue);                     \
  template void add<T>(Rows<T>, Rows<T>, int32_t, Rows<T>, Queue);                          \
  template void gather<T>(Rows<T>, const int32_t*, int32_t, Rows<T>, Queue)
SPOTLIGHT_OPS(__nv_bfloat16);
SPOTLIGHT_OPS(__half);
#undef SPOTLIGHT_OPS

}  // namespace spotlight::gpu
