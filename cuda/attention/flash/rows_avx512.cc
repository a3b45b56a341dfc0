// Attention over a list of rows for avx512.
#define SPOTLIGHT_SIMD "attention/simd/avx512.h"
#include "attention/flash/rows_impl.h"

namespace spotlight::avx512 {

void attend_rows(const RowsOp& op) { attend_rows_impl(op); }

}  // namespace spotlight::avx512
