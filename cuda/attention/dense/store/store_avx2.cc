// Rounding to binary16 for avx2.
#define SPOTLIGHT_SIMD "attention/simd/avx2.h"
#include "attention/dense/store/store_impl.h"

namespace spotlight::avx2 {

void store_rows(const StoreOp& op) { store_rows_impl(op); }

}  // namespace spotlight::avx2
