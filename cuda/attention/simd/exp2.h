// 2^x over the vectors of SPOTLIGHT_SIMD, the header of one instruction set. Cephes' polynomial;
// relative error below 3e-7.
#pragma once

#include SPOTLIGHT_SIMD

namespace spotlight {
namespace {

// Only products, sums and exact steps, so that every instruction set gives the same bits: codes of
// the mlp encoder depend on it. Results below 2^-126 come out as 2^-126: for a softmax that is
// zero.
inline vf exp2_exact(vf x) {
  const vf clamped = min(set1(126.0f), max(set1(-126.0f), x));  // NaN stays NaN
  const vf n = round(clamped);
  const vf f = sub(clamped, n);
  vf p = set1(1.535336188319500e-4f);
  p = add(mul(p, f), set1(1.339887440266574e-3f));
  p = add(mul(p, f), set1(9.618437357674640e-3f));
  p = add(mul(p, f), set1(5.550332471162809e-2f));
  p = add(mul(p, f), set1(2.402264791363012e-1f));
  p = add(mul(p, f), set1(6.931472028550421e-1f));
  p = add(mul(p, f), set1(1.0f));
  return scale_by_power(p, n);
}

// For softmax: fused where the CPU can.
inline vf exp2_fast(vf x) {
  const vf clamped = max(set1(-126.0f), x);
  const vf n = round(clamped);
  const vf f = sub(clamped, n);
  vf p = set1(1.535336188319500e-4f);
  p = fmadd(p, f, set1(1.339887440266574e-3f));
  p = fmadd(p, f, set1(9.618437357674640e-3f));
  p = fmadd(p, f, set1(5.550332471162809e-2f));
  p = fmadd(p, f, set1(2.402264791363012e-1f));
  p = fmadd(p, f, set1(6.931472028550421e-1f));
  p = fmadd(p, f, set1(1.0f));
  return scale_by_power(p, n);
}

}  // namespace
}  // namespace spotlight
