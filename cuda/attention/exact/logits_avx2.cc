// Exact logits and the softmax over them for avx2.
#define SPOTLIGHT_SIMD "attention/simd/avx2.h"
#include "attention/exact/logits_impl.h"

namespace spotlight::avx2 {

void exact_logits(const LogitsOp& op) { exact_logits_impl(op); }
void softmax_mass(const MassOp& op) { softmax_mass_impl(op); }

}  // namespace spotlight::avx2
