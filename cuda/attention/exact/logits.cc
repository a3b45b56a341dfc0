// Exact logits and the softmax over them for portable.
#define SPOTLIGHT_SIMD "attention/simd/portable.h"
#include "attention/exact/logits_impl.h"

namespace spotlight::portable {

void exact_logits(const LogitsOp& op) { exact_logits_impl(op); }
void softmax_mass(const MassOp& op) { softmax_mass_impl(op); }

}  // namespace spotlight::portable
