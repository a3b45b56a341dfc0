// A file mapped read-only for as long as views of it live. Sizes are fixed at open: a file that
// another process cuts short while it is served faults the reader, as with every mapped loader;
// replace model files by rename.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace spotlight {

class MappedFile {
 public:
  // Throws Error{missing} when the path is no readable regular file.
  MappedFile(const std::string& path, const char* missing);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  const uint8_t* data() const { return data_; }
  size_t size() const { return size_; }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
  const uint8_t* data_ = nullptr;
  size_t size_ = 0;
};

}  // namespace spotlight
