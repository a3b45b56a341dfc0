// cuDNN's decode against our own dense attention, which has a reference of its own: the same rows,
// blocks in another order, contexts that end inside a block.
#include <cuda_bf16.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>

#include "attention/dense/gpu/cudnn_decode.h"
#include "attention/dense/gpu/dense_gpu.h"
#include "device/cuda/runtime/device_memory.h"
#include "device/cuda/runtime/gpu_test.h"

namespace spotlight::gpu {
namespace {

using Half = __nv_bfloat16;

constexpr int32_t kBatch = 3, kContext = 1000, kStride = 16, kHeads = 28, kKvHeads = 4, kDim = 128;
constexpr int32_t kBlocks = kBatch * kStride;

template <typename N>
DeviceBuffer<N> uploaded(const std::vector<N>& values) {
  DeviceBuffer<N> buffer(values.size());
  CUDA_CHECK(cudaMemcpy(buffer.data(), values.data(), buffer.bytes(), cudaMemcpyHostToDevice));
  return buffer;
}

struct World {
  DeviceBuffer<Half> k, v, q;
  DeviceBuffer<int32_t> tables, contexts;
  std::vector<int32_t> lengths = {kContext, 1, 705};  // of the sequences

  explicit World(bool in_order) {
    std::mt19937 random(1);
    std::normal_distribution<float> normal;
    const auto fill = [&](size_t count) {
      std::vector<Half> values(count);
      for (Half& value : values) value = __float2bfloat16(normal(random));
      return uploaded(values);
    };
    const size_t cache = size_t{kBlocks} * kKvHeads * kBlockSize * kDim;
    k = fill(cache);
    v = fill(cache);
    q = fill(size_t{kBatch} * kHeads * kDim);
    std::vector<int32_t> order(kBlocks);
    std::iota(order.begin(), order.end(), 0);
    if (!in_order) std::shuffle(order.begin(), order.end(), random);
    tables = uploaded(order);
    contexts = uploaded(lengths);
  }
  std::vector<float> ours() const {
    DenseShape shape;
    shape.query_heads = kHeads;
    shape.kv_heads = kKvHeads;
    shape.head_dim = kDim;
    shape.max_rows = shape.max_tokens = shape.seats = kBatch;
    shape.table_stride = kStride;
    DensePlan plan(shape);
    std::vector<DenseRow> rows;
    for (int32_t i = 0; i < kBatch; i++) rows.push_back({i, 1, lengths[static_cast<size_t>(i)], i});
    plan.set(rows.data(), kBatch, 0, nullptr);
    Cache<Half> cache;
    cache.k = k.data();
    cache.v = v.data();
    const DeviceBuffer<Half> out(q.size());
    dense_attention(plan, cache, tables.data(), q.data(), kHeads * kDim, out.data(), kBatch,
                    nullptr);
    return read(out);
  }
  std::vector<float> cudnn(const CudnnShape& shape) const {
    const DeviceBuffer<Half> out(q.size());
    const CudnnDecode decode(shape);
    decode.attend(k.data(), v.data(), tables.data(), contexts.data(), q.data(), out.data(),
                  nullptr);
    return read(out);
  }
  static std::vector<float> read(const DeviceBuffer<Half>& out) {
    std::vector<Half> values(out.size());
    CUDA_CHECK(cudaMemcpy(values.data(), out.data(), out.bytes(), cudaMemcpyDeviceToHost));
    std::vector<float> wide(values.size());
    for (size_t i = 0; i < wide.size(); i++) wide[i] = __bfloat162float(values[i]);
    return wide;
  }
};

CudnnShape shape_of(CudnnLayout layout) {
  CudnnShape shape;
  shape.layout = layout;
  shape.batch = kBatch;
  shape.query_heads = kHeads;
  shape.kv_heads = kKvHeads;
  shape.head_dim = kDim;
  shape.context = kContext;
  shape.blocks = kBlocks;
  shape.table_stride = kStride;
  return shape;
}

TEST(paged_rows_are_ours) {
  check::need_gpu();
  const World world(false);
  CHECK_CLOSE(world.cudnn(shape_of(CudnnLayout::kPaged)), world.ours(), 1e-2, 1e-2);
}

TEST(contiguous_rows_of_a_head_are_a_cache_of_one_head) {
  check::need_gpu();
  // With one KV head, blocks in order are contiguous keys; every context is the shape's.
  const World world(true);
  CudnnShape shape = shape_of(CudnnLayout::kContiguous);
  shape.kv_heads = 1;
  shape.query_heads = 7;
  shape.context = kStride * kBlockSize;
  DenseShape dense;
  dense.query_heads = 7;
  dense.kv_heads = 1;
  dense.head_dim = kDim;
  dense.max_rows = dense.max_tokens = dense.seats = kBatch;
  dense.table_stride = kStride;
  DensePlan plan(dense);
  std::vector<DenseRow> rows;
  for (int32_t i = 0; i < kBatch; i++) rows.push_back({i, 1, shape.context, i});
  plan.set(rows.data(), kBatch, 0, nullptr);
  Cache<Half> cache;
  cache.k = world.k.data();
  cache.v = world.v.data();
  const DeviceBuffer<Half> ours(size_t{kBatch} * 7 * kDim), theirs(ours.size());
  dense_attention(plan, cache, world.tables.data(), world.q.data(), 7 * kDim, ours.data(), kBatch,
                  nullptr);
  const CudnnDecode decode(shape);
  decode.attend(world.k.data(), world.v.data(), nullptr, nullptr, world.q.data(), theirs.data(),
                nullptr);
  CHECK_CLOSE(World::read(theirs), World::read(ours), 1e-2, 1e-2);
}

}  // namespace
}  // namespace spotlight::gpu
