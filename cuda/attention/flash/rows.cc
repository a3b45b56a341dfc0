// Attention over a list of rows for portable.
#define SPOTLIGHT_SIMD "attention/simd/portable.h"
#include "attention/flash/rows_impl.h"

namespace spotlight::portable {

void attend_rows(const RowsOp& op) { attend_rows_impl(op); }

}  // namespace spotlight::portable
