// A hash-weight artifact: a safetensors file whose tensors turn keys and queries into codes.
//   linear-asym  layers.{i}.key.weight    [kv_heads, head_dim, bits]
//                layers.{i}.query.weight  [query_heads, head_dim, bits]
//   mlp          layers.{i}.mlp.w1 [query_heads, head_dim, hidden], .b1 [query_heads, hidden],
//                .w2 [query_heads, hidden, bits], .b2 [query_heads, bits]
// Row-vector convention: z = x @ weight. Tensors are F32, F16 or BF16 in the file, F32 once read.
// metadata: format "spotlight-artifact-1", encoder, bits, model_fingerprint, head_dim, query_heads,
// kv_heads, and whatever else the trainer recorded.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace spotlight {

struct LayerCode {           // empty vectors: the layer carries no codes and attends densely
  std::vector<float> key;    // linear-asym: [kv_heads, head_dim, bits]
  std::vector<float> query;  // linear-asym: [query_heads, head_dim, bits]
  std::vector<float> w1, b1, w2, b2;  // mlp
};

struct Artifact {
  std::string encoder;  // "linear-asym" or "mlp"
  int32_t bits = 0;     // a code's bits: a KV head's (linear-asym) or a query head's (mlp)
  int32_t head_dim = 0, query_heads = 0, kv_heads = 0, hidden = 0;
  std::vector<LayerCode> layers;  // by layer index, up to the last layer that carries codes
  std::map<std::string, std::string> metadata;
  // Bits a token and KV head takes in a code plane.
  int32_t plane_bits() const { return encoder == "mlp" ? bits * (query_heads / kv_heads) : bits; }
};

// Throws ARTIFACT_NOT_FOUND or ARTIFACT_CORRUPT (truncated, overlapping or short tensors, header
// too large, NaN, dims that disagree), naming the tensor.
Artifact read_artifact(const std::string& path);

}  // namespace spotlight
