#include "device/cuda/runtime/device_memory.h"

#include <numeric>
#include <utility>

#include "device/cuda/runtime/gpu_test.h"
#include "error.h"
#include "test/check.h"

namespace spotlight {
namespace {

TEST(what_is_copied_there_comes_back) {
  check::need_gpu();
  const size_t count = (1 << 20) + 3;
  PinnedBuffer<uint32_t> out(count), back(count);
  std::iota(out.data(), out.data() + count, 7u);
  DeviceBuffer<uint32_t> first(count), second(count);
  CHECK_EQ(first.bytes(), count * 4);
  CHECK_EQ(reinterpret_cast<uintptr_t>(first.data()) % 256, uintptr_t{0});
  CUDA_CHECK(cudaMemcpy(first.data(), out.data(), out.bytes(), cudaMemcpyHostToDevice));
  CUDA_CHECK(cudaMemcpy(second.data(), first.data(), first.bytes(), cudaMemcpyDeviceToDevice));
  CUDA_CHECK(cudaMemset(first.data(), 0xab, first.bytes()));
  CUDA_CHECK(cudaMemcpy(back.data(), second.data(), back.bytes(), cudaMemcpyDeviceToHost));
  for (size_t i = 0; i < count; i++) CHECK_EQ(back.data()[i], static_cast<uint32_t>(i) + 7);
  CUDA_CHECK(cudaMemcpy(back.data(), first.data(), back.bytes(), cudaMemcpyDeviceToHost));
  for (size_t i = 0; i < count; i++) CHECK_EQ(back.data()[i], 0xababababu);
}

TEST(memory_goes_back_with_its_owner) {
  check::need_gpu();
  const size_t bytes = size_t{1} << 28;
  DeviceBuffer<char> kept(1);
  const size_t before = free_device_bytes();
  {
    DeviceBuffer<char> large(bytes);
    CHECK(free_device_bytes() + bytes <= before + (size_t{1} << 24));
    const DeviceBuffer<char> moved = std::move(large);
    CHECK(large.data() == nullptr && large.size() == 0);
    CHECK(moved.data() != nullptr);
  }
  CHECK(free_device_bytes() + (size_t{1} << 24) >= before);
}

TEST(out_of_memory_is_said_so_and_leaves_the_device_usable) {
  check::need_gpu();
  CHECK_THROWS(DeviceBuffer<char>(size_t{1} << 46), "OUT_OF_MEMORY", "70368744177664 bytes wanted");
  DeviceBuffer<int> small(64);
  CUDA_CHECK(cudaMemset(small.data(), 0, small.bytes()));
  CUDA_CHECK(cudaDeviceSynchronize());
}

TEST(nothing_is_taken_for_nothing) {
  check::need_gpu();
  CHECK(DeviceBuffer<int>().data() == nullptr);
  CHECK(DeviceBuffer<int>(0).data() == nullptr);
}

TEST(a_failed_call_is_named_and_not_reported_twice) {
  check::need_gpu();
  CHECK_THROWS(CUDA_CHECK(cudaMemset(nullptr, 0, 16)), "INTERNAL", "cudaErrorInvalidValue");
  CHECK_THROWS(CUDA_CHECK(cudaMemset(nullptr, 0, 16)), "INTERNAL", "cudaMemset(nullptr, 0, 16)");
  CHECK_EQ(cudaGetLastError(), cudaSuccess);
  CHECK_THROWS(CUDA_CHECK(cudaSetDevice(4096)), "DEVICE_UNAVAILABLE", "cudaErrorInvalidDevice");
}

}  // namespace
}  // namespace spotlight
