// Rounding to binary16 for avx512.
#define SPOTLIGHT_SIMD "attention/simd/avx512.h"
#include "attention/dense/store/store_impl.h"

namespace spotlight::avx512 {

void store_rows(const StoreOp& op) { store_rows_impl(op); }

}  // namespace spotlight::avx512
