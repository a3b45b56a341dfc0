#include "device/cuda/matmul.h"

#include <algorithm>
#include <string>

#include "error.h"

namespace spotlight {
namespace {

// What cuBLASLt recommends for Hopper; kernels that split a long sum keep the parts there.
constexpr size_t kWorkspace = size_t{32} << 20;
constexpr uint32_t kMostAlignment = 256;

uint32_t alignment(const void* pointer) {
  const auto address = reinterpret_cast<uintptr_t>(pointer);
  return static_cast<uint32_t>(std::min<uintptr_t>(address & (~address + 1), kMostAlignment));
}

}  // namespace

// cuBLASLt counts matrices by columns: it sees the weight as [cols, weight_rows] to be transposed,
// x as [cols, rows] and the result as [weight_rows, rows].
struct Matmul::Plan {
  explicit Plan(const CublasLt& library) : lib(library) {}
  ~Plan() {
    for (const cublasLtMatrixLayout_t layout : {weight, x, out})
      if (layout != nullptr) lib.matrix_layout_destroy(layout);
    if (operation != nullptr) lib.matmul_desc_destroy(operation);
  }
  Plan(const Plan&) = delete;
  Plan& operator=(const Plan&) = delete;

  const CublasLt& lib;
  cublasLtMatmulDesc_t operation = nullptr;
  cublasLtMatrixLayout_t weight = nullptr, x = nullptr, out = nullptr;
  cublasLtMatmulAlgo_t algorithm = {};
};

Matmul::Matmul(Dtype dtype)
    : lib_(cublaslt()),
      type_(dtype == Dtype::kBf16 ? CUDA_R_16BF : CUDA_R_16F),
      workspace_(kWorkspace) {
  CUBLASLT_CHECK(lib_.create(&handle_));
}

Matmul::~Matmul() {
  plans_.clear();
  lib_.destroy(handle_);
}

std::unique_ptr<Matmul::Plan> Matmul::plan(const Key& key, const uint16_t* bias) const {
  const auto [rows, weight_rows, cols, x_stride, out_stride, biased, aligned] = key;
  auto plan = std::make_unique<Plan>(lib_);
  CUBLASLT_CHECK(lib_.matmul_desc_create(&plan->operation, CUBLAS_COMPUTE_32F, CUDA_R_32F));
  const auto set = [&](cublasLtMatmulDescAttributes_t attribute, const auto& value) {
    CUBLASLT_CHECK(
        lib_.matmul_desc_set_attribute(plan->operation, attribute, &value, sizeof value));
  };
  set(CUBLASLT_MATMUL_DESC_TRANSA, CUBLAS_OP_T);
  if (biased) {
    set(CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_BIAS);
    set(CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, type_);
    set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, bias);  // the choice looks at its alignment
  }
  const auto layout = [&](cublasLtMatrixLayout_t* made, int64_t height, int64_t width,
                          int64_t stride) {
    CUBLASLT_CHECK(lib_.matrix_layout_create(made, type_, static_cast<uint64_t>(height),
                                             static_cast<uint64_t>(width), stride));
  };
  layout(&plan->weight, cols, weight_rows, cols);
  layout(&plan->x, cols, rows, x_stride);
  layout(&plan->out, weight_rows, rows, out_stride);

  cublasLtMatmulPreference_t preference = nullptr;
  CUBLASLT_CHECK(lib_.matmul_preference_create(&preference));
  const std::unique_ptr<cublasLtMatmulPreferenceOpaque_t,
                        decltype(&::cublasLtMatmulPreferenceDestroy)>
      held(preference, lib_.matmul_preference_destroy);
  const auto prefer = [&](cublasLtMatmulPreferenceAttributes_t attribute, const auto& value) {
    CUBLASLT_CHECK(
        lib_.matmul_preference_set_attribute(preference, attribute, &value, sizeof value));
  };
  prefer(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, static_cast<uint64_t>(workspace_.bytes()));
  for (const auto pointer :
       {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES})
    prefer(pointer, aligned);

  cublasLtMatmulHeuristicResult_t best = {};
  int found = 0;
  const cublasStatus_t status =
      lib_.matmul_algo_get_heuristic(handle_, plan->operation, plan->weight, plan->x, plan->out,
                                     plan->out, preference, 1, &best, &found);
  if (status == CUBLAS_STATUS_NOT_SUPPORTED || found == 0) {
    throw Error(kModelUnsupported, "cuBLASLt has no kernel for " + std::to_string(rows) +
                                       " rows times a weight of [" + std::to_string(weight_rows) +
                                       ", " + std::to_string(cols) + "]");
  }
  CUBLASLT_CHECK(status);
  plan->algorithm = best.algo;
  return plan;
}

void Matmul::run(gpu::Rows<const uint16_t> x, const uint16_t* weight, int64_t weight_rows,
                 const uint16_t* bias, int32_t rows, gpu::Rows<uint16_t> out, cudaStream_t stream) {
  const uint32_t aligned = std::min({alignment(x.data), alignment(weight), alignment(out.data)});
  const Key key{rows, weight_rows, x.columns, x.stride, out.stride, bias != nullptr, aligned};
  std::unique_ptr<Plan>& plan = plans_[key];
  if (plan == nullptr) plan = this->plan(key, bias);
  if (bias != nullptr) {
    CUBLASLT_CHECK(lib_.matmul_desc_set_attribute(
        plan->operation, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias, sizeof bias));
  }
  const float one = 1, zero = 0;
  CUBLASLT_CHECK(lib_.matmul(handle_, plan->operation, &one, weight, plan->weight, x.data, plan->x,
                             &zero, out.data, plan->out, out.data, plan->out, &plan->algorithm,
                             workspace_.data(), workspace_.bytes(), stream));
}

}  // namespace spotlight
