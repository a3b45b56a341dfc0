// The arithmetic of codes for portable.
#define SPOTLIGHT_SIMD "attention/simd/portable.h"
#include "attention/spotlight/encode/project_impl.h"

namespace spotlight::portable {

CodeKernels code_kernels() { return code_kernels_impl(); }

}  // namespace spotlight::portable
