// NVIDIA's libraries, opened when first needed and never linked, so that one addon loads on every
// machine and can say what it misses. Once open they stay: CUDA's libraries do not survive being
// unloaded. Needs no CUDA header: builds without CUDA look at devices, too.
#pragma once

#include <string>
#include <vector>

namespace spotlight {

// What to open and what to tell someone who lacks it.
struct LibraryName {
  const char* title;   // "cuBLASLt"
  const char* file;    // "libcublasLt.so.13"
  const char* remedy;  // what brings it
};

extern const LibraryName kDriverLibrary;      // libcuda
extern const LibraryName kManagementLibrary;  // NVML: free memory without a context
extern const LibraryName
    kRuntimeLibrary;  // shared cudart, for cudnn-frontend alone: ours is static
extern const LibraryName kCublasLtLibrary;
extern const LibraryName kCudnnLibrary;

class DynamicLibrary {
 public:
  // Looks in the folders of SPOTLIGHT_CUDA_LIBS (colons between), the loader's path, the toolkit
  // the build found, then the cache that scripts/cuda.mjs --runtime fills. Throws
  // DEVICE_UNAVAILABLE with the title, the loader's reason and the remedy.
  explicit DynamicLibrary(const LibraryName& name);

  // Throws DEVICE_UNAVAILABLE when this version of the library has no such function.
  template <typename Function>
  void find(const char* symbol, Function& function) const {
    function = reinterpret_cast<Function>(address(symbol));
  }
  void* handle() const { return handle_; }

 private:
  void* address(const char* symbol) const;

  const LibraryName& name_;
  void* handle_;
};

// Folders searched besides the loader's path: those before it, those after it.
std::vector<std::string> folders_named();
std::vector<std::string> folders_known();

}  // namespace spotlight
