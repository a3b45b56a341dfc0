#include "device/cuda/runtime/cublaslt.h"

#include <cstring>
#include <string>

#include "error.h"

namespace spotlight {

CublasLt::CublasLt() : library_(kCublasLtLibrary) {
  library_.find("cublasLtCreate", create);
  library_.find("cublasLtDestroy", destroy);
  library_.find("cublasLtMatmul", matmul);
  library_.find("cublasLtMatmulDescCreate", matmul_desc_create);
  library_.find("cublasLtMatmulDescDestroy", matmul_desc_destroy);
  library_.find("cublasLtMatmulDescSetAttribute", matmul_desc_set_attribute);
  library_.find("cublasLtMatrixLayoutCreate", matrix_layout_create);
  library_.find("cublasLtMatrixLayoutDestroy", matrix_layout_destroy);
  library_.find("cublasLtMatrixLayoutSetAttribute", matrix_layout_set_attribute);
  library_.find("cublasLtMatmulPreferenceCreate", matmul_preference_create);
  library_.find("cublasLtMatmulPreferenceDestroy", matmul_preference_destroy);
  library_.find("cublasLtMatmulPreferenceSetAttribute", matmul_preference_set_attribute);
  library_.find("cublasLtMatmulAlgoGetHeuristic", matmul_algo_get_heuristic);
  library_.find("cublasLtMatmulAlgoConfigGetAttribute", matmul_algo_config_get_attribute);
  library_.find("cublasLtGetStatusName", get_status_name);
  library_.find("cublasLtGetStatusString", get_status_string);
  library_.find("cublasLtGetVersion", get_version);
}

const CublasLt& cublaslt() {
  static const CublasLt table;
  return table;
}

void throw_cublaslt_error(cublasStatus_t status, const char* call, const char* file, int line) {
  const char* base = std::strrchr(file, '/');
  const std::string message = std::string(call) + ": " + cublaslt().get_status_name(status) + ": " +
                              cublaslt().get_status_string(status) + " (" +
                              (base == nullptr ? file : base + 1) + ":" + std::to_string(line) +
                              ")";
  throw Error(status == CUBLAS_STATUS_ALLOC_FAILED ? kOutOfMemory : kInternal, message);
}

}  // namespace spotlight
