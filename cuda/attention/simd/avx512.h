// Sixteen float lanes with AVX-512 F, BW, VL and DQ. See portable.h for what each function means.
#pragma once

// GCC 12 warns of its own intrinsics' undefined operands (bug 105593).
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#include <immintrin.h>

#include <cstdint>

namespace spotlight {
namespace {

using vf = __m512;
constexpr int kWidth = 16;
constexpr int kTileRows = 6;
constexpr int kTileVectors = 4;
constexpr int kRowVectors = 4;
constexpr int kQueryVectors = 4;

inline vf load(const float* p) { return _mm512_loadu_ps(p); }
inline void store(float* p, vf v) { _mm512_storeu_ps(p, v); }
inline vf set1(float x) { return _mm512_set1_ps(x); }
inline vf zero() { return _mm512_setzero_ps(); }
inline vf load_half(const uint16_t* p) {
  return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}
inline void store_half(uint16_t* p, vf v) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p),
                      _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
inline vf load_bf16(const uint16_t* p) {
  const __m512i wide =
      _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  return _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));
}
inline vf add(vf a, vf b) { return _mm512_add_ps(a, b); }
inline vf sub(vf a, vf b) { return _mm512_sub_ps(a, b); }
inline vf mul(vf a, vf b) { return _mm512_mul_ps(a, b); }
inline vf div(vf a, vf b) { return _mm512_div_ps(a, b); }
inline vf fmadd(vf a, vf b, vf c) { return _mm512_fmadd_ps(a, b, c); }
inline vf max(vf a, vf b) { return _mm512_max_ps(a, b); }
inline vf min(vf a, vf b) { return _mm512_min_ps(a, b); }
inline vf abs(vf a) { return _mm512_abs_ps(a); }
inline vf round(vf a) {
  return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
inline vf scale_by_power(vf a, vf n) { return _mm512_scalef_ps(a, n); }
inline float sum_lanes(vf a) { return _mm512_reduce_add_ps(a); }
inline float max_lanes(vf a) { return _mm512_reduce_max_ps(a); }
inline uint32_t positive_mask(vf a) { return _mm512_cmp_ps_mask(a, zero(), _CMP_GT_OQ); }
inline uint32_t magnitude_mask(vf a, int bit) {
  return _mm512_test_epi32_mask(_mm512_cvtps_epi32(abs(a)), _mm512_set1_epi32(1 << bit));
}
// Four vectors whose lanes are summed within each 128-bit lane.
inline vf sum_quads(const float* part) {
  const vf a = load(part), b = load(part + 16), c = load(part + 32), d = load(part + 48);
  const vf ab = add(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
  const vf cd = add(_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d));
  const __m512d x = _mm512_castps_pd(ab), y = _mm512_castps_pd(cd);
  return add(_mm512_castpd_ps(_mm512_unpacklo_pd(x, y)),
             _mm512_castpd_ps(_mm512_unpackhi_pd(x, y)));
}
inline vf sum_rows(const float* part) {
  const vf e0 = sum_quads(part), e1 = sum_quads(part + 64);
  const vf e2 = sum_quads(part + 128), e3 = sum_quads(part + 192);
  const vf f0 = add(_mm512_shuffle_f32x4(e0, e1, 0x88), _mm512_shuffle_f32x4(e0, e1, 0xdd));
  const vf f1 = add(_mm512_shuffle_f32x4(e2, e3, 0x88), _mm512_shuffle_f32x4(e2, e3, 0xdd));
  return add(_mm512_shuffle_f32x4(f0, f1, 0x88), _mm512_shuffle_f32x4(f0, f1, 0xdd));
}
inline void transpose_half(const uint16_t* src, int src_stride, float* dst, int dst_stride) {
  vf r[16], t[16];
  for (int i = 0; i < 16; i++) r[i] = load_half(src + i * src_stride);
  for (int i = 0; i < 16; i += 2) {
    t[i] = _mm512_unpacklo_ps(r[i], r[i + 1]);
    t[i + 1] = _mm512_unpackhi_ps(r[i], r[i + 1]);
  }
  for (int i = 0; i < 16; i += 4) {
    const __m512d a = _mm512_castps_pd(t[i]), b = _mm512_castps_pd(t[i + 2]);
    const __m512d c = _mm512_castps_pd(t[i + 1]), d = _mm512_castps_pd(t[i + 3]);
    r[i] = _mm512_castpd_ps(_mm512_unpacklo_pd(a, b));
    r[i + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(a, b));
    r[i + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(c, d));
    r[i + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(c, d));
  }
  // r[4 a + i] holds, in 128-bit lane l, column 4 l + i of rows 4 a .. 4 a + 3.
  for (int i = 0; i < 4; i++) {
    const vf x0 = _mm512_shuffle_f32x4(r[i], r[i + 4], 0x88);
    const vf x1 = _mm512_shuffle_f32x4(r[i], r[i + 4], 0xdd);
    const vf y0 = _mm512_shuffle_f32x4(r[i + 8], r[i + 12], 0x88);
    const vf y1 = _mm512_shuffle_f32x4(r[i + 8], r[i + 12], 0xdd);
    store(dst + i * dst_stride, _mm512_shuffle_f32x4(x0, y0, 0x88));
    store(dst + (4 + i) * dst_stride, _mm512_shuffle_f32x4(x1, y1, 0x88));
    store(dst + (8 + i) * dst_stride, _mm512_shuffle_f32x4(x0, y0, 0xdd));
    store(dst + (12 + i) * dst_stride, _mm512_shuffle_f32x4(x1, y1, 0xdd));
  }
}

}  // namespace
}  // namespace spotlight
