// Block summaries for avx2.
#define SPOTLIGHT_SIMD "attention/simd/avx2.h"
#include "attention/spotlight/tail/summary_impl.h"

namespace spotlight::avx2 {

void summarise(const SummaryOp& op) { summarise_impl(op); }

}  // namespace spotlight::avx2
