#include "device/cuda/probe/devices.h"

#include <cstdlib>

#include "device/cuda/probe/dynamic_library.h"
#include "test/check.h"

namespace spotlight {
namespace {

CudaDeviceInfo of(int32_t major, int32_t minor) {
  CudaDeviceInfo info;
  info.major = major;
  info.minor = minor;
  return info;
}

bool holds(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

TEST(binaries_run_within_a_major_version_and_ptx_on_anything_newer) {
  CHECK(runs_on("80,90a-real", 9, 0));
  CHECK(runs_on("80,90a-real", 8, 0));
  CHECK(runs_on("80-real", 8, 9));
  CHECK(!runs_on("86-real", 8, 0));
  CHECK(!runs_on("80-real", 9, 0));
  CHECK(runs_on("80", 12, 0));
  CHECK(runs_on("80-virtual", 10, 0));
  CHECK(!runs_on("80-virtual", 7, 5));
  CHECK(!runs_on("90a-real", 8, 0));
  CHECK(!runs_on("90a-real", 10, 0));
  CHECK(!runs_on("90a", 10, 0));
  CHECK(runs_on("100-real", 10, 3));
  CHECK(!runs_on("", 9, 0));
}

TEST(a_device_that_cannot_serve_says_why) {
  CHECK_EQ(problem_of(of(9, 0), 13000, "90a-real"), "");
  CHECK_EQ(problem_of(of(9, 0), 13020, "80,90a-real"), "");
  CHECK(holds(problem_of(of(7, 5), 13000, "80"), "compute capability 7.5, 8.0 or newer"));
  CHECK(holds(problem_of(of(9, 0), 12040, "80"), "supports CUDA 12.4, 13.0 is needed"));
  CHECK(holds(problem_of(of(8, 0), 13000, "90a-real"), "has code for 90a-real"));
  CHECK(holds(problem_of(of(9, 0), 13000, ""), "has no CUDA"));
}

TEST(a_missing_library_is_named_with_what_brings_it) {
  const LibraryName none{"Nothing", "libspotlight-nothing.so.1", "install nothing"};
  CHECK_THROWS(DynamicLibrary{none}, "DEVICE_UNAVAILABLE",
               "Nothing (libspotlight-nothing.so.1) cannot be loaded");
  CHECK_THROWS(DynamicLibrary{none}, "DEVICE_UNAVAILABLE", "; install nothing");
}

TEST(a_function_a_library_lacks_is_named) {
  const LibraryName c{"The C library", "libc.so.6", "install another"};
  const DynamicLibrary library(c);
  size_t (*length)(const char*) = nullptr;
  library.find("strlen", length);
  CHECK_EQ(length("four"), size_t{4});
  CHECK_THROWS(library.find("spotlight_no_such_function", length), "DEVICE_UNAVAILABLE",
               "The C library (libc.so.6) is too old");
}

TEST(folders_are_searched_in_the_order_they_are_named) {
  const char* before = std::getenv("SPOTLIGHT_CUDA_LIBS");
  const std::string kept = before == nullptr ? "" : before;
  setenv("SPOTLIGHT_CUDA_LIBS", "/first::/second", 1);
  const std::vector<std::string> named = folders_named();
  setenv("SPOTLIGHT_CUDA_LIBS", kept.c_str(), 1);
  CHECK_EQ(named.size(), size_t{2});
  CHECK_EQ(named[0], "/first");
  CHECK_EQ(named[1], "/second");
}

TEST(every_device_can_serve_or_says_why_and_none_leaves_a_reason) {
  const CudaDevices found = cuda_devices();
  if (found.devices.empty()) CHECK(!found.missing.empty());
  for (const std::string& sentence : found.missing) CHECK(!sentence.empty());
  for (size_t i = 0; i < found.devices.size(); i++) {
    const CudaDeviceInfo& device = found.devices[i];
    CHECK_EQ(device.index, static_cast<int32_t>(i));
    CHECK(!device.name.empty());
    CHECK(device.major >= 3 && device.memory_bytes > 0);
    CHECK(device.free_bytes <= device.memory_bytes);
  }
}

}  // namespace
}  // namespace spotlight
