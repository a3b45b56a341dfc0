// Choice of the instruction set. A kernel an instruction set does not improve is taken from the one
// below.
#include "attention/kernels.h"

#include <atomic>

#include "attention/backend.h"
#include "error.h"

namespace spotlight {
namespace {

#define SPOTLIGHT_KERNELS(isa)                                                                   \
  Kernels {                                                                                      \
#isa, isa::store_rows, isa::summarise, isa::attend_rows, isa::attend_tile, isa::score_block, \
        isa::compare_block, isa::exact_logits, isa::softmax_mass, isa::code_kernels()            \
  }

const Kernels* portable_table() {
  static const Kernels table = SPOTLIGHT_KERNELS(portable);
  return &table;
}

#if defined(__x86_64__)
const Kernels* avx2_table() {
  if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma") ||
      !__builtin_cpu_supports("f16c") || !__builtin_cpu_supports("bmi2") ||
      !__builtin_cpu_supports("popcnt"))
    return nullptr;
  static const Kernels table = SPOTLIGHT_KERNELS(avx2);
  return &table;
}

const Kernels* avx512_table() {
  if (!avx2_table() || !__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512bw") ||
      !__builtin_cpu_supports("avx512vl") || !__builtin_cpu_supports("avx512dq"))
    return nullptr;
  static const Kernels table = [] {
    Kernels made = SPOTLIGHT_KERNELS(avx512);
    if (!__builtin_cpu_supports("avx512vpopcntdq")) made.score_block = avx2::score_block;
    return made;
  }();
  return &table;
}
#else
const Kernels* avx2_table() { return nullptr; }
const Kernels* avx512_table() { return nullptr; }
#endif

const Kernels* best() {
  if (const Kernels* table = avx512_table()) return table;
  if (const Kernels* table = avx2_table()) return table;
  return portable_table();
}

std::atomic<const Kernels*> in_force{nullptr};

}  // namespace

const Kernels& kernels() {
  const Kernels* table = in_force.load(std::memory_order_acquire);
  if (!table) {
    table = best();
    in_force.store(table, std::memory_order_release);
  }
  return *table;
}

const char* select_isa(const std::string& isa) {
  const Kernels* table = nullptr;
  if (isa == "auto") {
    table = best();
  } else if (isa == "portable") {
    table = portable_table();
  } else if (isa == "avx2") {
    table = avx2_table();
  } else if (isa == "avx512") {
    table = avx512_table();
  } else {
    throw Error(kInvalidArgument,
                "isa must be one of auto, portable, avx2, avx512, not \"" + isa + "\"");
  }
  if (!table)
    throw Error(kInvalidArgument, "isa \"" + isa + "\" is not among what this CPU has; use auto");
  in_force.store(table, std::memory_order_release);
  return table->name;
}

}  // namespace spotlight
