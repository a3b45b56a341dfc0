#include "device/cuda/probe/devices.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <sstream>

#include "device/cuda/probe/driver.h"
#include "error.h"

#ifndef SPOTLIGHT_CUDA_ARCHITECTURES  // the build's, commas between; a build without CUDA has none
#define SPOTLIGHT_CUDA_ARCHITECTURES ""
#endif

namespace spotlight {
namespace {

constexpr int32_t kOldestCuda = 13000;     // the runtime linked into this build is of CUDA 13
constexpr int32_t kOldestCapability = 80;  // bf16 tensor cores and asynchronous copies
constexpr char kNoCuda[] =
    "this build of the native module has no CUDA; build it with "
    "\"SPOTLIGHT_CUDA=1 npm run build -w cuda\"";

std::string capability(int32_t major, int32_t minor) {
  return std::to_string(major) + "." + std::to_string(minor);
}

std::string uuid_text(const char* prefix, const Uuid& uuid) {
  std::string text = prefix;
  for (size_t i = 0; i < sizeof(uuid.bytes); i++) {
    std::array<char, 4> hex;
    const bool dash = i == 4 || i == 6 || i == 8 || i == 10;
    std::snprintf(hex.data(), hex.size(), dash ? "-%02x" : "%02x", uuid.bytes[i]);
    text += hex.data();
  }
  return text;
}

// What NVML adds to what the driver says. Containers may lack it, and MIG may refuse it.
class FreeMemory {
 public:
  FreeMemory() : ready_(management_.init() == 0) {}
  ~FreeMemory() {
    if (ready_) management_.shutdown();
  }
  FreeMemory(const FreeMemory&) = delete;
  FreeMemory& operator=(const FreeMemory&) = delete;

  void fill(const Uuid& uuid, CudaDeviceInfo& info) const {
    if (!ready_) return;
    std::array<char, 96> version{};
    if (management_.driver_version(version.data(), version.size()) == 0)
      info.driver = version.data();
    for (const char* prefix : {"GPU-", "MIG-"}) {
      Management::Device device = nullptr;
      Management::Memory memory{};
      if (management_.device(uuid_text(prefix, uuid).c_str(), &device) == 0 &&
          management_.memory(device, &memory) == 0) {
        info.free_bytes = static_cast<int64_t>(memory.free);
        return;
      }
    }
  }

 private:
  Management management_;
  bool ready_;
};

void check(const Driver& driver, int status, const char* call) {
  if (status == 0) return;
  const char* text = nullptr;
  driver.error_text(status, &text);
  throw Error(kDeviceUnavailable, std::string("NVIDIA driver: ") + call + ": " +
                                      (text ? text : "unknown error") + " (error " +
                                      std::to_string(status) + ")");
}

std::vector<CudaDeviceInfo> ask_driver() {
  const Driver driver;
  int cuda_version = 0, count = 0;
  check(driver, driver.init(0), "cuInit");
  check(driver, driver.version(&cuda_version), "cuDriverGetVersion");
  check(driver, driver.count(&count), "cuDeviceGetCount");
  std::unique_ptr<FreeMemory> free_memory;
  try {
    free_memory = std::make_unique<FreeMemory>();
  } catch (const Error&) {
    // Without NVML the driver's version and free memory stay unknown.
  }
  std::vector<CudaDeviceInfo> devices;
  for (int index = 0; index < count; index++) {
    Driver::Device device = 0;
    std::array<char, 256> name{};
    size_t bytes = 0;
    Uuid uuid{};
    CudaDeviceInfo info;
    info.index = index;
    check(driver, driver.device(&device, index), "cuDeviceGet");
    check(driver, driver.name(name.data(), name.size(), device), "cuDeviceGetName");
    check(driver, driver.memory(&bytes, device), "cuDeviceTotalMem");
    check(driver, driver.attribute(&info.major, Driver::kMajor, device), "cuDeviceGetAttribute");
    check(driver, driver.attribute(&info.minor, Driver::kMinor, device), "cuDeviceGetAttribute");
    check(driver, driver.uuid(&uuid, device), "cuDeviceGetUuid");
    info.name = name.data();
    info.memory_bytes = static_cast<int64_t>(bytes);
    if (free_memory != nullptr) free_memory->fill(uuid, info);
    info.problem = problem_of(info, cuda_version, SPOTLIGHT_CUDA_ARCHITECTURES);
    devices.push_back(std::move(info));
  }
  return devices;
}

}  // namespace

bool runs_on(const std::string& architectures, int32_t major, int32_t minor) {
  std::istringstream in(architectures);
  for (std::string entry; std::getline(in, entry, ',');) {
    char* rest = nullptr;
    const long number = std::strtol(entry.c_str(), &rest, 10);
    const std::string kind =
        rest;  // "", "-real", "-virtual", and with an "a" before: that one only
    const bool exact = !kind.empty() && kind[0] == 'a';
    const bool binary = kind.find("-virtual") == std::string::npos;
    const bool portable = kind.find("-real") == std::string::npos && !exact;
    if (exact && number == major * 10 + minor) return true;
    if (binary && !exact && number / 10 == major && number % 10 <= minor) return true;
    if (portable && number <= major * 10 + minor) return true;
  }
  return false;
}

std::string problem_of(const CudaDeviceInfo& device, int32_t cuda_version,
                       const std::string& architectures) {
  if (device.major * 10 + device.minor < kOldestCapability) {
    return "compute capability " + capability(device.major, device.minor) + ", " +
           capability(kOldestCapability / 10, kOldestCapability % 10) + " or newer is needed";
  }
  if (cuda_version < kOldestCuda) {
    return "the driver supports CUDA " + capability(cuda_version / 1000, cuda_version % 1000 / 10) +
           ", " + capability(kOldestCuda / 1000, 0) + " is needed: " + kDriverLibrary.remedy;
  }
  if (architectures.empty()) return kNoCuda;
  if (!runs_on(architectures, device.major, device.minor)) {
    return "compute capability " + capability(device.major, device.minor) +
           ", this build of the native module has code for " + architectures +
           ": build it here, or with SPOTLIGHT_CUDA_ARCHITECTURES";
  }
  return "";
}

CudaDevices cuda_devices() {
  CudaDevices found;
  const bool built = SPOTLIGHT_CUDA_ARCHITECTURES[0] != '\0';
  if (!built) found.missing.emplace_back(kNoCuda);
  try {
    found.devices = ask_driver();
    if (found.devices.empty()) found.missing.emplace_back("the NVIDIA driver shows no GPU");
  } catch (const Error& error) {
    found.missing.emplace_back(error.what());
  }
  for (const LibraryName* name : {&kCublasLtLibrary, &kCudnnLibrary}) {
    try {
      const DynamicLibrary library(*name);
    } catch (const Error& error) {
      found.missing.emplace_back(error.what());
    }
  }
  return found;
}

}  // namespace spotlight
