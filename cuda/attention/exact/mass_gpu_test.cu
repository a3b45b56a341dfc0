// The mass of a head's whole context against softmax in double, over ragged contexts and both
// 16-bit types.
#include <cuda_runtime.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "attention/exact/mass_gpu.h"
#include "attention/spotlight/encode/code_world.h"
#include "device/cuda/runtime/gpu_test.h"

namespace spotlight::gpu::test {
namespace {

template <typename T>
void check_mass(int32_t head_dim, int32_t group, int32_t context) {
  constexpr int32_t kHeads = 2, kHead = 1;
  const int32_t entries = (context + kBlockSize - 1) / kBlockSize, blocks = entries + 3;
  std::mt19937 random(7);
  std::normal_distribution<float> normal(0.f, 1.f);
  const auto values = [&](size_t count) {
    std::vector<T> made(count);
    for (T& x : made) x = from_float<T>(normal(random));
    return made;
  };
  const std::vector<T> k =
      values(static_cast<size_t>(blocks) * kHeads * kBlockSize * static_cast<size_t>(head_dim));
  const std::vector<T> q = values(static_cast<size_t>(kHeads * group * head_dim));
  std::vector<int32_t> table(static_cast<size_t>(blocks));
  std::iota(table.begin(), table.end(), 0);
  std::shuffle(table.begin(), table.end(), random);
  const auto device_k = upload(k);
  const auto device_q = upload(q);
  const auto device_table = upload(table);
  const DeviceBuffer<float> mass(static_cast<size_t>(context)),
      workspace(mass_workspace(group, context));
  MassOp<T> op;
  op.cache.k = device_k.data();
  op.cache.kv_heads = kHeads;
  op.cache.query_heads = kHeads * group;
  op.cache.head_dim = head_dim;
  op.table = device_table.data();
  op.context = context;
  op.head = kHead;
  op.q = device_q.data();
  op.mass = mass.data();
  op.workspace = workspace.data();
  softmax_mass(nullptr, op);

  std::vector<double> expected(static_cast<size_t>(context), 0.0);
  for (int32_t h = 0; h < group; h++) {
    std::vector<double> weight(static_cast<size_t>(context));
    double total = 0;
    for (int32_t t = 0; t < context; t++) {
      const int64_t row =
          (int64_t{table[static_cast<size_t>(t / kBlockSize)]} * kHeads + kHead) * kBlockSize +
          t % kBlockSize;
      double logit = 0;
      for (int32_t i = 0; i < head_dim; i++)
        logit += static_cast<double>(
                     to_float(q[static_cast<size_t>((kHead * group + h) * head_dim + i)])) *
                 to_float(k[static_cast<size_t>(row * head_dim + i)]);
      total += weight[static_cast<size_t>(t)] = std::exp(logit / std::sqrt(head_dim));
    }
    for (int32_t t = 0; t < context; t++)
      expected[static_cast<size_t>(t)] += weight[static_cast<size_t>(t)] / total;
  }
  const std::vector<float> made = download(mass);
  CHECK_CLOSE(made, std::vector<float>(expected.begin(), expected.end()), 1e-7, 1e-4);
}

TEST(mass_is_the_softmax_of_the_group_over_the_whole_context) {
  check::need_gpu();
  for (const int32_t context : {1, 63, 64, 65, 700, 5000}) {
    check_mass<__nv_bfloat16>(64, 3, context);
    check_mass<__half>(128, 7, context);
  }
  check_mass<__nv_bfloat16>(96, 1, 333);
  check_mass<__nv_bfloat16>(256, 16, 333);
}

}  // namespace
}  // namespace spotlight::gpu::test
