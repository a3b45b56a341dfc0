// Block summaries for portable.
#define SPOTLIGHT_SIMD "attention/simd/portable.h"
#include "attention/spotlight/tail/summary_impl.h"

namespace spotlight::portable {

void summarise(const SummaryOp& op) { summarise_impl(op); }

}  // namespace spotlight::portable
