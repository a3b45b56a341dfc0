// FlashAttention 2 for head_dim 64.
#include "attention/dense/gpu/flash2.cuh"

namespace spotlight::gpu {

template void decode_pieces<__nv_bfloat16, 64>(const DenseTensors<__nv_bfloat16>&,
                                               const DecodePieces&, cudaStream_t);
template void decode_pieces<__half, 64>(const DenseTensors<__half>&, const DecodePieces&,
                                        cudaStream_t);
template void prefill_ampere<__nv_bfloat16, 64>(const DenseTensors<__nv_bfloat16>&,
                                                const PrefillTiles&, cudaStream_t);
template void prefill_ampere<__half, 64>(const DenseTensors<__half>&, const PrefillTiles&,
                                         cudaStream_t);

}  // namespace spotlight::gpu
