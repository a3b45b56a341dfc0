// Block summaries for avx512.
#define SPOTLIGHT_SIMD "attention/simd/avx512.h"
#include "attention/spotlight/tail/summary_impl.h"

namespace spotlight::avx512 {

void summarise(const SummaryOp& op) { summarise_impl(op); }

}  // namespace spotlight::avx512
