// The arithmetic of codes for avx2.
#define SPOTLIGHT_SIMD "attention/simd/avx2.h"
#include "attention/spotlight/encode/project_impl.h"

namespace spotlight::avx2 {

CodeKernels code_kernels() { return code_kernels_impl(); }

}  // namespace spotlight::avx2
