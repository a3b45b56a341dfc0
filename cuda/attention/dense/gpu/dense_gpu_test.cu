// Dense attention on the GPU against sums in double over the same 16-bit values: ragged rows with
// prefixes anywhere in the step, every head_dim, groups of 1 to 16, shuffled block tables, caches
// that hold NaN wherever no row may look, and a graph that outlives its rows.
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>
#include <type_traits>

#include "attention/dense/gpu/dense_gpu.h"
#include "device/cuda/runtime/device_memory.h"
#include "device/cuda/runtime/gpu_test.h"

namespace spotlight::gpu {
namespace {

template <typename T>
T narrowed(float x) {
  if constexpr (std::is_same_v<T, __nv_bfloat16>)
    return __float2bfloat16(x);
  else
    return __float2half(x);
}
template <typename T>
float widened(T x) {
  if constexpr (std::is_same_v<T, __nv_bfloat16>)
    return __bfloat162float(x);
  else
    return __half2float(x);
}

template <typename N>
void upload(const DeviceBuffer<N>& buffer, const std::vector<N>& values) {
  CUDA_CHECK(
      cudaMemcpy(buffer.data(), values.data(), values.size() * sizeof(N), cudaMemcpyHostToDevice));
}

constexpr float kUntouched = 12345.f;

// A cache of one layer with its block tables, q as a column view of a wider product, and rows.
template <typename T>
struct World {
  DenseShape shape;
  int32_t blocks = 0, tokens = 0;
  int64_t q_stride = 0;
  std::vector<int32_t> tables;
  std::vector<T> k, v, q;
  DeviceBuffer<int32_t> device_tables;
  DeviceBuffer<T> device_k, device_v, device_q, device_out;
  std::mt19937 random;

  World(int32_t head_dim, int32_t kv_heads, int32_t group, int32_t seats, int32_t max_context,
        int32_t max_tokens, uint32_t seed)
      : random(seed) {
    shape.query_heads = kv_heads * group;
    shape.kv_heads = kv_heads;
    shape.head_dim = head_dim;
    shape.max_rows = seats;
    shape.max_tokens = max_tokens;
    shape.seats = seats;
    shape.table_stride = (max_context + kBlockSize - 1) / kBlockSize + 3;
    tokens = max_tokens;
    q_stride = int64_t{shape.query_heads + 2 * kv_heads} * head_dim;
    blocks = seats * shape.table_stride;
    tables.resize(blocks);
    std::iota(tables.begin(), tables.end(), 0);
    std::shuffle(tables.begin(), tables.end(), random);
    const size_t cache = size_t(blocks) * kv_heads * kBlockSize * head_dim;
    k.assign(cache, narrowed<T>(NAN));
    v.assign(cache, narrowed<T>(NAN));
    q.resize(tokens * q_stride);
    for (T& x : q) x = narrowed<T>(normal());
    device_tables = DeviceBuffer<int32_t>(tables.size());
    device_k = DeviceBuffer<T>(cache);
    device_v = DeviceBuffer<T>(cache);
    device_q = DeviceBuffer<T>(q.size());
    device_out = DeviceBuffer<T>(size_t(tokens) * shape.query_heads * head_dim);
    upload(device_tables, tables);
    upload(device_q, q);
  }

  float normal() { return std::normal_distribution<float>()(random); }
  size_t at(int32_t seat, int32_t position, int32_t head) const {
    const size_t block = tables[seat * shape.table_stride + position / kBlockSize];
    return ((block * shape.kv_heads + head) * kBlockSize + position % kBlockSize) * shape.head_dim;
  }
  // The tokens of a sequence get keys and values; the rest of its blocks stays NaN.
  void write(int32_t seat, int32_t context) {
    for (int32_t position = 0; position < context; position++) {
      for (int32_t head = 0; head < shape.kv_heads; head++) {
        const size_t from = at(seat, position, head);
        if (!std::isnan(widened(k[from]))) continue;
        for (int32_t d = 0; d < shape.head_dim; d++) {
          k[from + d] = narrowed<T>(normal());
          v[from + d] = narrowed<T>(normal());
        }
      }
    }
  }
  void write(const std::vector<DenseRow>& rows) {
    for (const DenseRow& row : rows) write(row.seat, row.context);
    upload(device_k, k);
    upload(device_v, v);
    CUDA_CHECK(cudaDeviceSynchronize());
  }
  void clear_out() {
    upload(device_out, std::vector<T>(device_out.size(), narrowed<T>(kUntouched)));
  }
  void attend(const DensePlan& plan, cudaStream_t stream) {
    Cache<T> cache;
    cache.k = device_k.data();
    cache.v = device_v.data();
    cache.kv_heads = shape.kv_heads;
    cache.query_heads = shape.query_heads;
    cache.head_dim = shape.head_dim;
    dense_attention(plan, cache, device_tables.data(), device_q.data(), q_stride, device_out.data(),
                    tokens, stream);
  }

  void check(const std::vector<DenseRow>& rows) {
    std::vector<T> out(device_out.size());
    CUDA_CHECK(
        cudaMemcpy(out.data(), device_out.data(), device_out.bytes(), cudaMemcpyDeviceToHost));
    const int32_t dim = shape.head_dim, group = shape.query_heads / shape.kv_heads;
    std::vector<char> written(tokens, 0);
    double worst = 0;
    std::vector<double> weights, sums(dim);
    for (const DenseRow& row : rows) {
      for (int32_t i = 0; i < row.tokens; i++) {
        written[row.first + i] = 1;
        const int32_t context = row.context - row.tokens + i + 1;
        // All heads of few queries, one head of each of many: seconds, not minutes.
        for (int32_t head = 0; head < shape.query_heads; head++) {
          if (row.tokens > 1 && (head + i) % shape.query_heads != 0) continue;
          const T* query = q.data() + (row.first + i) * q_stride + head * dim;
          weights.resize(context);
          double max = -INFINITY, total = 0;
          for (int32_t p = 0; p < context; p++) {
            const T* key = k.data() + at(row.seat, p, head / group);
            double logit = 0;
            for (int32_t d = 0; d < dim; d++) logit += double{widened(query[d])} * widened(key[d]);
            weights[p] = logit / std::sqrt(double{1} * dim);
            max = std::max(max, weights[p]);
          }
          std::fill(sums.begin(), sums.end(), 0.0);
          for (int32_t p = 0; p < context; p++) {
            const double weight = std::exp(weights[p] - max);
            total += weight;
            const T* value = v.data() + at(row.seat, p, head / group);
            for (int32_t d = 0; d < dim; d++) sums[d] += weight * widened(value[d]);
          }
          for (int32_t d = 0; d < dim; d++) {
            const double expected = sums[d] / total;
            const float actual =
                widened(out[(size_t(row.first + i) * shape.query_heads + head) * dim + d]);
            CHECK(std::isfinite(actual));
            worst = std::max(worst, std::fabs(actual - expected) / (1 + std::fabs(expected)));
          }
        }
      }
    }
    CHECK(worst < (std::is_same_v<T, __half> ? 2e-3 : 1.2e-2));
    for (int32_t i = 0; i < tokens; i++)
      if (!written[i])
        CHECK(widened(out[size_t(i) * shape.query_heads * dim]) ==
              widened(narrowed<T>(kUntouched)));
  }

  void attend_and_check(DensePlan& plan, const std::vector<DenseRow>& rows) {
    write(rows);
    clear_out();
    plan.set(rows.data(), static_cast<int32_t>(rows.size()), 0, nullptr);
    attend(plan, nullptr);
    CUDA_CHECK(cudaDeviceSynchronize());
    check(rows);
  }
};

// Rows of one and of several tokens, with and without a prefix, apart from each other.
const std::vector<DenseRow> kMixed = {
    {2, 1, 1, 5},     {3, 200, 200, 0},  {204, 1, 64, 1},     {206, 130, 707, 2}, {340, 1, 65, 3},
    {341, 2, 129, 4}, {345, 1, 1500, 6}, {350, 193, 1000, 7}, {543, 1, 128, 8},
};

template <typename T>
void mixed(int32_t head_dim, int32_t kv_heads, int32_t group) {
  World<T> world(head_dim, kv_heads, group, 9, 1500, 560, head_dim + group);
  for (const bool hopper : {true, false}) {
    world.shape.hopper_prefill = hopper;
    DensePlan plan(world.shape);
    world.attend_and_check(plan, kMixed);
  }
}

TEST(ragged_rows_of_every_head_dim) {
  check::need_gpu();
  for (const int32_t head_dim : {64, 96, 128, 256}) {
    mixed<__nv_bfloat16>(head_dim, 2, 4);
    mixed<__half>(head_dim, 2, 3);
  }
}

TEST(every_group) {
  check::need_gpu();
  for (int32_t group = 1; group <= 16; group++) {
    mixed<__nv_bfloat16>(128, 1, group);
    if (group == 5 || group == 7) mixed<__nv_bfloat16>(96, 2, group);
  }
}

TEST(decode_at_the_borders_of_chunks_and_blocks) {
  check::need_gpu();
  for (const int32_t head_dim : {64, 96, 128, 256}) {
    World<__nv_bfloat16> world(head_dim, 2, 7, 12, 9500, 12, 7);
    DensePlan plan(world.shape);
    std::vector<DenseRow> rows;
    const int32_t contexts[] = {1, 63, 64, 65, 127, 128, 129, 1000, 4096, 4097, 8191, 9500};
    for (int32_t i = 0; i < 12; i++) rows.push_back({11 - i, 1, contexts[i], i});
    world.attend_and_check(plan, rows);
    for (const int32_t row : {0, 8, 11}) world.attend_and_check(plan, {rows[row]});
  }
}

TEST(the_same_rows_give_the_same_bits) {
  check::need_gpu();
  World<__nv_bfloat16> world(128, 4, 7, 9, 1500, 560, 3);
  DensePlan plan(world.shape);
  world.attend_and_check(plan, kMixed);
  std::vector<uint16_t> first(world.device_out.size()), second(first.size());
  const size_t bytes = world.device_out.bytes();
  CUDA_CHECK(cudaMemcpy(first.data(), world.device_out.data(), bytes, cudaMemcpyDeviceToHost));
  for (int i = 0; i < 5; i++) {
    world.attend(plan, nullptr);
    CUDA_CHECK(cudaMemcpy(second.data(), world.device_out.data(), bytes, cudaMemcpyDeviceToHost));
    CHECK(first == second);
  }
}

TEST(a_graph_of_a_bucket_serves_later_rows) {
  check::need_gpu();
  World<__nv_bfloat16> world(128, 4, 7, 8, 9000, 8, 11);
  DensePlan plan(world.shape);
  cudaStream_t stream;
  CUDA_CHECK(cudaStreamCreate(&stream));
  const DenseRow one{0, 1, 100, 0};
  plan.set(&one, 1, 8, stream);
  CUDA_CHECK(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
  world.attend(plan, stream);
  cudaGraph_t graph;
  CUDA_CHECK(cudaStreamEndCapture(stream, &graph));
  cudaGraphExec_t exec;
  CUDA_CHECK(cudaGraphInstantiate(&exec, graph, 0));
  for (int round = 0; round < 6; round++) {
    std::vector<DenseRow> rows;
    const int32_t count = 8 - round;
    for (int32_t i = 0; i < count; i++)
      rows.push_back({i, 1, 1 + static_cast<int32_t>(world.random() % (round % 2 ? 9000 : 300)),
                      (i + round) % 8});
    world.write(rows);
    world.clear_out();
    plan.set(rows.data(), count, 8, stream);
    CUDA_CHECK(cudaGraphLaunch(exec, stream));
    CUDA_CHECK(cudaStreamSynchronize(stream));
    world.check(rows);
  }
  CUDA_CHECK(cudaGraphExecDestroy(exec));
  CUDA_CHECK(cudaGraphDestroy(graph));
  CUDA_CHECK(cudaStreamDestroy(stream));
}

TEST(what_has_no_kernel_is_refused_by_name) {
  check::need_gpu();
  DenseShape shape;
  shape.query_heads = 8;
  shape.kv_heads = 2;
  shape.head_dim = 80;
  shape.max_rows = shape.max_tokens = shape.seats = shape.table_stride = 1;
  CHECK_THROWS(DensePlan{shape}, "MODEL_UNSUPPORTED", "head_dim 80");
  shape.head_dim = 64;
  shape.query_heads = 34;
  CHECK_THROWS(DensePlan{shape}, "MODEL_UNSUPPORTED", "kv_heads 2");
  shape.query_heads = 8;
  shape.seats = 1 << 13;
  shape.table_stride = 1 << 13;
  CHECK_THROWS(DensePlan{shape}, "INVALID_ARGUMENT", "fewer sequences");
}

}  // namespace
}  // namespace spotlight::gpu
