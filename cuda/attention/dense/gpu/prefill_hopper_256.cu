// FlashAttention 3 for head_dim 256; of the GPUs compiled for, only Hopper has its instructions.
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ == 900
#include "attention/dense/gpu/prefill_hopper.cuh"

namespace spotlight::gpu {

template void prefill_hopper<__nv_bfloat16, 256>(const DenseTensors<__nv_bfloat16>&,
                                                 const PrefillWork&, cudaStream_t);
template void prefill_hopper<__half, 256>(const DenseTensors<__half>&, const PrefillWork&,
                                          cudaStream_t);

}  // namespace spotlight::gpu
#endif
