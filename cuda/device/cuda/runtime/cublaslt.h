// cuBLASLt, opened when the first matrix product is planned: its functions in one table, under the
// names of the library without their prefix. The header serves types alone, nothing of it is
// linked.
#pragma once

#include <cublasLt.h>

#include "device/cuda/probe/dynamic_library.h"

namespace spotlight {

class CublasLt {
 public:
  decltype(&::cublasLtCreate) create;
  decltype(&::cublasLtDestroy) destroy;
  decltype(&::cublasLtMatmul) matmul;
  decltype(&::cublasLtMatmulDescCreate) matmul_desc_create;
  decltype(&::cublasLtMatmulDescDestroy) matmul_desc_destroy;
  decltype(&::cublasLtMatmulDescSetAttribute) matmul_desc_set_attribute;
  decltype(&::cublasLtMatrixLayoutCreate) matrix_layout_create;
  decltype(&::cublasLtMatrixLayoutDestroy) matrix_layout_destroy;
  decltype(&::cublasLtMatrixLayoutSetAttribute) matrix_layout_set_attribute;
  decltype(&::cublasLtMatmulPreferenceCreate) matmul_preference_create;
  decltype(&::cublasLtMatmulPreferenceDestroy) matmul_preference_destroy;
  decltype(&::cublasLtMatmulPreferenceSetAttribute) matmul_preference_set_attribute;
  decltype(&::cublasLtMatmulAlgoGetHeuristic) matmul_algo_get_heuristic;
  decltype(&::cublasLtMatmulAlgoConfigGetAttribute) matmul_algo_config_get_attribute;
  decltype(&::cublasLtGetStatusName) get_status_name;
  decltype(&::cublasLtGetStatusString) get_status_string;
  decltype(&::cublasLtGetVersion) get_version;

 private:
  friend const CublasLt& cublaslt();
  CublasLt();

  DynamicLibrary library_;
};

// Opens the library on the first call; any thread. Throws DEVICE_UNAVAILABLE saying what is missing
// (and tries again on the next call).
const CublasLt& cublaslt();

// OUT_OF_MEMORY for a failed allocation, else INTERNAL with the call and the status.
[[noreturn]] void throw_cublaslt_error(cublasStatus_t status, const char* call, const char* file,
                                       int line);

}  // namespace spotlight

#define CUBLASLT_CHECK(call)                                                         \
  do {                                                                               \
    const cublasStatus_t cublaslt_status = (call);                                   \
    if (cublaslt_status != CUBLAS_STATUS_SUCCESS)                                    \
      ::spotlight::throw_cublaslt_error(cublaslt_status, #call, __FILE__, __LINE__); \
  } while (0)
