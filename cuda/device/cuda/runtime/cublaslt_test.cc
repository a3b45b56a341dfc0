#include "device/cuda/runtime/cublaslt.h"

#include <vector>

#include "device/cuda/runtime/device_memory.h"
#include "device/cuda/runtime/gpu_test.h"
#include "error.h"
#include "test/check.h"

namespace spotlight {
namespace {

TEST(the_library_says_its_version) {
  check::need_gpu();
  CHECK(cublaslt().get_version() >= 130000);
  CHECK(&cublaslt() == &cublaslt());
}

// c = aT b, column-major: a [k, m], b [k, n], c [m, n]; small integers, so the sums are exact.
TEST(a_product_is_the_hosts) {
  check::need_gpu();
  const CublasLt& lt = cublaslt();
  constexpr int m = 24, n = 5, k = 16;
  std::vector<float> a(k * m), b(k * n), c(m * n), expected(m * n);
  for (int i = 0; i < k * m; i++) a[i] = static_cast<float>(i * 7 % 13 - 6);
  for (int i = 0; i < k * n; i++) b[i] = static_cast<float>(i * 5 % 11 - 5);
  for (int j = 0; j < n; j++)
    for (int i = 0; i < m; i++)
      for (int x = 0; x < k; x++) expected[j * m + i] += a[i * k + x] * b[j * k + x];

  DeviceBuffer<float> device_a(a.size()), device_b(b.size()), device_c(c.size());
  CUDA_CHECK(cudaMemcpy(device_a.data(), a.data(), device_a.bytes(), cudaMemcpyHostToDevice));
  CUDA_CHECK(cudaMemcpy(device_b.data(), b.data(), device_b.bytes(), cudaMemcpyHostToDevice));
  cublasLtHandle_t handle;
  cublasLtMatmulDesc_t product;
  cublasLtMatrixLayout_t layout_a, layout_b, layout_c;
  CUBLASLT_CHECK(lt.create(&handle));
  CUBLASLT_CHECK(lt.matmul_desc_create(&product, CUBLAS_COMPUTE_32F, CUDA_R_32F));
  const cublasOperation_t transposed = CUBLAS_OP_T;
  CUBLASLT_CHECK(lt.matmul_desc_set_attribute(product, CUBLASLT_MATMUL_DESC_TRANSA, &transposed,
                                              sizeof(transposed)));
  CUBLASLT_CHECK(lt.matrix_layout_create(&layout_a, CUDA_R_32F, k, m, k));
  CUBLASLT_CHECK(lt.matrix_layout_create(&layout_b, CUDA_R_32F, k, n, k));
  CUBLASLT_CHECK(lt.matrix_layout_create(&layout_c, CUDA_R_32F, m, n, m));
  const float one = 1, zero = 0;
  CUBLASLT_CHECK(lt.matmul(handle, product, &one, device_a.data(), layout_a, device_b.data(),
                           layout_b, &zero, device_c.data(), layout_c, device_c.data(), layout_c,
                           nullptr, nullptr, 0, nullptr));
  CUDA_CHECK(cudaMemcpy(c.data(), device_c.data(), device_c.bytes(), cudaMemcpyDeviceToHost));
  CHECK_CLOSE(c, expected, 0, 0);

  CHECK_THROWS(
      CUBLASLT_CHECK(lt.matmul_desc_set_attribute(product, CUBLASLT_MATMUL_DESC_TRANSA, &one, 0)),
      "INTERNAL", "CUBLAS_STATUS_INVALID_VALUE");
  lt.matrix_layout_destroy(layout_a);
  lt.matrix_layout_destroy(layout_b);
  lt.matrix_layout_destroy(layout_c);
  lt.matmul_desc_destroy(product);
  lt.destroy(handle);
}

}  // namespace
}  // namespace spotlight
