#include "train/multiply.h"

#include <algorithm>
#include <cstring>

namespace spotlight::train {
namespace {

// A tile of kRows x (kVectors * kLanes) sums stays in registers while k runs.
#if defined(__AVX512F__)
constexpr int kLanes = 16, kVectors = 4, kRows = 6;
#elif defined(__AVX__)
constexpr int kLanes = 8, kVectors = 2, kRows = 6;
#else
constexpr int kLanes = 4, kVectors = 2, kRows = 4;
#endif
typedef float Vector __attribute__((vector_size(kLanes * sizeof(float)), aligned(4), may_alias));

inline Vector load(const float* from) { return *reinterpret_cast<const Vector*>(from); }
inline void store(float* to, Vector value) { *reinterpret_cast<Vector*>(to) = value; }

template <int R, int V>
void tile(Strided a, const float* b, int64_t ldb, float* c, int64_t ldc, int32_t k, bool add) {
  Vector sum[R][V];
#pragma GCC unroll 8
  for (int r = 0; r < R; r++)
#pragma GCC unroll 8
    for (int v = 0; v < V; v++) sum[r][v] = add ? load(c + r * ldc + v * kLanes) : Vector{};
  for (int32_t l = 0; l < k; l++) {
    Vector right[V];
#pragma GCC unroll 8
    for (int v = 0; v < V; v++) right[v] = load(b + l * ldb + v * kLanes);
#pragma GCC unroll 8
    for (int r = 0; r < R; r++) {
      const float left = a.data[r * a.row + l * a.column];
#pragma GCC unroll 8
      for (int v = 0; v < V; v++) sum[r][v] += left * right[v];
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < R; r++)
#pragma GCC unroll 8
    for (int v = 0; v < V; v++) store(c + r * ldc + v * kLanes, sum[r][v]);
}

template <int V>
void columns(Strided a, const float* b, int64_t ldb, float* c, int64_t ldc, int32_t m, int32_t k,
             bool add) {
  int32_t i = 0;
  for (; i + kRows <= m; i += kRows)
    tile<kRows, V>({a.data + i * a.row, a.row, a.column}, b, ldb, c + i * ldc, ldc, k, add);
  for (; i < m; i++)
    tile<1, V>({a.data + i * a.row, a.row, a.column}, b, ldb, c + i * ldc, ldc, k, add);
}

}  // namespace

void multiply(Strided a, const float* b, int64_t ldb, float* c, int64_t ldc, int32_t m, int32_t n,
              int32_t k, bool add) {
  int32_t j = 0;
  for (; j + kVectors * kLanes <= n; j += kVectors * kLanes)
    columns<kVectors>(a, b + j, ldb, c + j, ldc, m, k, add);
  for (; j < n; j += kLanes) columns<1>(a, b + j, ldb, c + j, ldc, m, k, add);
}

void transpose(const float* in, int64_t ldi, float* out, int64_t ldo, int32_t rows,
               int32_t columns) {
  constexpr int32_t kBlock = 16;  // a line of each side
  for (int32_t i0 = 0; i0 < rows; i0 += kBlock) {
    const int32_t i1 = std::min(rows, i0 + kBlock);
    for (int32_t j = 0; j < columns; j++)
      for (int32_t i = i0; i < i1; i++) out[j * ldo + i] = in[i * ldi + j];
  }
}

}  // namespace spotlight::train
