#include "device/cuda/probe/dynamic_library.h"

#include <dlfcn.h>

#include <cstdlib>
#include <sstream>

#include "error.h"

#ifndef SPOTLIGHT_CUDA_LIBRARY_FOLDERS  // the build's, colons between
#define SPOTLIGHT_CUDA_LIBRARY_FOLDERS ""
#endif

namespace spotlight {
namespace {

constexpr char kPackaged[] =
    "run \"node cuda/scripts/cuda.mjs --runtime\", or name its folder in SPOTLIGHT_CUDA_LIBS";
constexpr char kInstallDriver[] = "install NVIDIA's driver, 580 or newer";

std::vector<std::string> split(const std::string& folders) {
  std::vector<std::string> parts;
  std::istringstream in(folders);
  for (std::string part; std::getline(in, part, ':');)
    if (!part.empty()) parts.push_back(part);
  return parts;
}

std::string environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

std::string last_error() {
  const char* text = dlerror();
  return text == nullptr ? "unknown reason" : text;
}

}  // namespace

const LibraryName kDriverLibrary{"NVIDIA driver", "libcuda.so.1", kInstallDriver};
const LibraryName kManagementLibrary{"NVML", "libnvidia-ml.so.1", kInstallDriver};
const LibraryName kRuntimeLibrary{"CUDA runtime", "libcudart.so.13", kPackaged};
const LibraryName kCublasLtLibrary{"cuBLASLt", "libcublasLt.so.13", kPackaged};
const LibraryName kCudnnLibrary{"cuDNN", "libcudnn.so.9", kPackaged};

std::vector<std::string> folders_named() { return split(environment("SPOTLIGHT_CUDA_LIBS")); }

std::vector<std::string> folders_known() {
  std::vector<std::string> folders = split(SPOTLIGHT_CUDA_LIBRARY_FOLDERS);
  std::string cache = environment("SPOTLIGHT_CACHE");
  if (cache.empty()) cache = environment("HOME") + "/.cache/spotlight";
  folders.push_back(cache + "/cuda-13.0/nvidia/cu13/lib");
  folders.push_back(cache + "/cuda-13.0/nvidia/cudnn/lib");
  return folders;
}

DynamicLibrary::DynamicLibrary(const LibraryName& name) : name_(name), handle_(nullptr) {
  const auto open = [&](const std::string& path) {
    if (handle_ == nullptr) handle_ = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
    return handle_ != nullptr;
  };
  for (const std::string& folder : folders_named())
    if (open(folder + "/" + name.file)) return;
  if (open(name.file)) return;
  const std::string reason = last_error();
  for (const std::string& folder : folders_known())
    if (open(folder + "/" + name.file)) return;
  throw Error(kDeviceUnavailable, std::string(name.title) + " (" + name.file +
                                      ") cannot be loaded: " + reason + "; " + name.remedy);
}

void* DynamicLibrary::address(const char* symbol) const {
  dlerror();
  void* found = dlsym(handle_, symbol);
  if (found == nullptr) {
    throw Error(kDeviceUnavailable, std::string(name_.title) + " (" + name_.file +
                                        ") is too old: " + last_error() + "; " + name_.remedy);
  }
  return found;
}

}  // namespace spotlight
