#include "device/cuda/step_graphs.h"

#include <algorithm>

#include "device/cuda/runtime/cuda_error.h"

namespace spotlight {
namespace {

constexpr size_t kMost = 64;

cudaGraphExec_t capture(cudaStream_t stream, const std::function<void()>& body) {
  // Thread-local: loading an artifact may allocate meanwhile, on another thread.
  CUDA_CHECK(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
  cudaGraph_t recorded = nullptr;
  try {
    body();
  } catch (...) {
    cudaStreamEndCapture(stream, &recorded);
    if (recorded != nullptr) cudaGraphDestroy(recorded);
    throw;
  }
  CUDA_CHECK(cudaStreamEndCapture(stream, &recorded));
  cudaGraphExec_t made = nullptr;
  const cudaError_t status = cudaGraphInstantiate(&made, recorded, 0);
  cudaGraphDestroy(recorded);
  check_cuda(status, "cudaGraphInstantiate", __FILE__, __LINE__);
  return made;
}

}  // namespace

StepGraphs::Graph::~Graph() {
  if (run != nullptr) cudaGraphExecDestroy(run);
}

void StepGraphs::run(const Kind& kind, cudaStream_t stream, const std::function<void()>& body) {
  const auto known = std::find_if(graphs_.begin(), graphs_.end(),
                                  [&](const Graph& graph) { return graph.kind == kind; });
  if (known == graphs_.end()) {
    graphs_.emplace_front(kind);
    if (graphs_.size() > kMost) graphs_.pop_back();
    body();
    return;
  }
  graphs_.splice(graphs_.begin(), graphs_, known);
  Graph& graph = graphs_.front();
  if (graph.run == nullptr) graph.run = capture(stream, body);
  CUDA_CHECK(cudaGraphLaunch(graph.run, stream));
}

size_t StepGraphs::size() const {
  return static_cast<size_t>(std::count_if(
      graphs_.begin(), graphs_.end(), [](const Graph& graph) { return graph.run != nullptr; }));
}

}  // namespace spotlight
