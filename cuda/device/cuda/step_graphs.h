// Graphs of steps by kind. The first step of a kind is launched op by op, which loads its kernels
// and settles what cuBLASLt takes; the second is captured; later ones are one launch. Kinds are
// few; the least recently used goes.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <list>
#include <string>

namespace spotlight {

class StepGraphs {
 public:
  // What the launches of a step depend on besides device memory.
  struct Kind {
    int32_t tokens = 0;  // padded
    bool logits = false, cuts = false;
    std::string pattern;  // StepPlan's
    bool operator==(const Kind& other) const {
      return tokens == other.tokens && logits == other.logits && cuts == other.cuts &&
             pattern == other.pattern;
    }
  };

  // Runs the step whose launches `body` makes on `stream`.
  void run(const Kind& kind, cudaStream_t stream, const std::function<void()>& body);
  // Addresses have changed.
  void clear() { graphs_.clear(); }
  // Captured so far.
  size_t size() const;

 private:
  struct Graph {
    explicit Graph(const Kind& of) : kind(of) {}
    ~Graph();
    Graph(const Graph&) = delete;
    Graph& operator=(const Graph&) = delete;

    Kind kind;
    cudaGraphExec_t run = nullptr;  // null: the kind has come once
  };

  std::list<Graph> graphs_;  // most recently used first
};

}  // namespace spotlight
