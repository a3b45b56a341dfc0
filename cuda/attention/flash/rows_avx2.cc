// Attention over a list of rows for avx2.
#define SPOTLIGHT_SIMD "attention/simd/avx2.h"
#include "attention/flash/rows_impl.h"

namespace spotlight::avx2 {

void attend_rows(const RowsOp& op) { attend_rows_impl(op); }

}  // namespace spotlight::avx2
