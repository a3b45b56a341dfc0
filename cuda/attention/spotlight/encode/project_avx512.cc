// The arithmetic of codes for avx512.
#define SPOTLIGHT_SIMD "attention/simd/avx512.h"
#include "attention/spotlight/encode/project_impl.h"

namespace spotlight::avx512 {

CodeKernels code_kernels() { return code_kernels_impl(); }

}  // namespace spotlight::avx512
