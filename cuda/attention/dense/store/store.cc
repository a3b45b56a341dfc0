// Rounding to binary16 for portable.
#define SPOTLIGHT_SIMD "attention/simd/portable.h"
#include "attention/dense/store/store_impl.h"

namespace spotlight::portable {

void store_rows(const StoreOp& op) { store_rows_impl(op); }

}  // namespace spotlight::portable
