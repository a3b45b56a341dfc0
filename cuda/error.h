// The native module's one error. Codes are the strings of errors.ts: the binding copies them onto
// the JS error unchanged.
#pragma once

#include <stdexcept>
#include <string>

namespace spotlight {

class Error : public std::runtime_error {
 public:
  Error(const char* code, const std::string& message) : std::runtime_error(message), code_(code) {}
  const char* code() const { return code_; }

 private:
  const char* code_;
};

inline constexpr char kInvalidArgument[] = "INVALID_ARGUMENT";
inline constexpr char kModelNotFound[] = "MODEL_NOT_FOUND";
inline constexpr char kModelCorrupt[] = "MODEL_CORRUPT";
inline constexpr char kModelUnsupported[] = "MODEL_UNSUPPORTED";
inline constexpr char kArtifactNotFound[] = "ARTIFACT_NOT_FOUND";
inline constexpr char kArtifactCorrupt[] = "ARTIFACT_CORRUPT";
inline constexpr char kArtifactMismatch[] = "ARTIFACT_MISMATCH";
inline constexpr char kOutOfMemory[] = "OUT_OF_MEMORY";
inline constexpr char kDeviceUnavailable[] = "DEVICE_UNAVAILABLE";
inline constexpr char kQueueFull[] = "QUEUE_FULL";
inline constexpr char kEngineDead[] = "ENGINE_DEAD";
inline constexpr char kEngineDisposed[] = "ENGINE_DISPOSED";
inline constexpr char kInternal[] = "INTERNAL";

}  // namespace spotlight
