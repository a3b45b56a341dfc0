#include "attention/crossover.h"

#include <algorithm>
#include <climits>

#include "attention/backend.h"

namespace spotlight {
namespace {

// Safely past the break-even of a CPU, whatever the model; `npm run bench -- cpu-decode` shows both
// ways to attend.
constexpr int32_t kCpu = 1024;

// What a GPU's dense attention takes follows from the bytes of K and V, what retrieval takes at
// least is a few launches: they meet at so many bytes, so tokens are given for one width.
constexpr int64_t kMeasuredWidth = 512;  // of Qwen2.5-7B

struct Measured {
  const char* isa;
  int32_t tokens;
};
// By compute capability: what the command in front of a line prints last, of the results kept with
// the benchmarks; a test there fails when they say another number.
constexpr Measured kMeasured[] = {
    // npm run bench -- crossover --from test/bench/results/crossover.nvidia-h200.jsonl
    {"sm_90", 28'416},
};

}  // namespace

int32_t default_crossover(const std::string& device, const std::string& isa, int32_t kv_width) {
  if (device == "cpu") return kCpu;
  // One that was not measured takes the largest there is: dense is never wrong, only slower.
  int64_t tokens = 0;
  for (const Measured& measured : kMeasured) {
    if (isa == measured.isa) {
      tokens = measured.tokens;
      break;
    }
    tokens = std::max<int64_t>(tokens, measured.tokens);
  }
  tokens = tokens * kMeasuredWidth / std::max(kv_width, 1);
  return static_cast<int32_t>(
      std::min<int64_t>((tokens + kBlockSize - 1) / kBlockSize * kBlockSize, INT32_MAX));
}

}  // namespace spotlight
