// The default encoder: a KV head's key code is sign(k Wk); the group's queries become one vector of
// 4-bit integers, the quantised sum of softsign(q Wq) over its heads. A part is 64 columns of both,
// and what one part reads of the weights lies in one piece: a decode step finds them in no cache,
// and only a long run of addresses comes from memory at its full pace.
#include <algorithm>

#include "attention/kernels.h"
#include "attention/spotlight/encode/encoder.h"
#include "error.h"

namespace spotlight {
namespace {

constexpr int32_t kPartBits = 64;
constexpr int32_t kMagnitudePlanes = 3;
constexpr int32_t kLargest = 7;  // of a 4-bit query component

class LinearAsymEncoder : public CodeEncoder {
 public:
  LinearAsymEncoder(const Artifact& artifact, int32_t layers)
      : bits_(artifact.bits),
        dim_(artifact.head_dim),
        group_(artifact.query_heads / artifact.kv_heads),
        layers_(layers) {
    const size_t matrix = static_cast<size_t>(dim_) * bits_;
    for (size_t i = 0; i < artifact.layers.size(); i++) {
      const LayerCode& from = artifact.layers[i];
      if (from.key.empty()) continue;
      if (from.key.size() != matrix * artifact.kv_heads ||
          from.query.size() != matrix * artifact.query_heads)
        throw Error(kArtifactMismatch,
                    "layers." + std::to_string(i) +
                        ": key.weight and query.weight must be [heads, head_dim, bits]");
      layers_[i] = {WeightMatrix(by_part(from.key, 1)), WeightMatrix(by_part(from.query, group_))};
    }
  }

  bool has_layer(int32_t layer) const override {
    return layer >= 0 && layer < static_cast<int32_t>(layers_.size()) &&
           !layers_[layer].key.empty();
  }
  int32_t plane_words() const override { return bits_ / 32; }
  int32_t parts() const override { return (bits_ + kPartBits - 1) / kPartBits; }
  int32_t selections() const override { return 1; }
  int32_t bins() const override { return kLargest * bits_ + 1; }
  int32_t query_words() const override { return bits_; }
  int32_t prepared_words() const override { return (1 + kMagnitudePlanes) * bits_ / 32; }
  int32_t scratch_floats() const override { return kEncodeTile * kPartBits; }

  void encode_keys(int32_t layer, int32_t kv_head, int32_t part, const float* keys, int32_t tokens,
                   uint32_t* codes, int32_t code_stride, float* scratch) const override {
    const CodeKernels& kernel = kernels().code;
    ProjectOp op = projection(layers_[layer].key, kv_head, part, 0, 1);
    op.x = keys;
    op.x_stride = dim_;
    op.rows = tokens;
    op.z = scratch;
    op.z_stride = kPartBits;
    kernel.project(op);
    for (int32_t t = 0; t < tokens; t++)
      kernel.pack_signs(scratch + t * kPartBits, op.columns,
                        codes + static_cast<int64_t>(t) * code_stride + part * kPartBits / 32);
  }

  void encode_queries(int32_t layer, int32_t kv_head, int32_t part, const float* queries,
                      int64_t stride, int32_t tokens, uint32_t* out, int64_t out_stride,
                      float*) const override {
    for (int32_t g = 0; g < group_; g++) {
      ProjectOp op = projection(layers_[layer].query, kv_head, part, g, group_);
      op.x = queries + g * dim_;
      op.x_stride = stride;
      op.rows = tokens;
      op.activation = Activation::kSoftsign;
      op.accumulate = g > 0;
      op.z = reinterpret_cast<float*>(out) + part * kPartBits;
      op.z_stride = out_stride;
      kernels().code.project(op);
    }
  }

  void prepare(const uint32_t* query, int32_t, uint32_t* prepared) const override {
    kernels().code.quantise(reinterpret_cast<const float*>(query), bits_, prepared);
  }

  void score(const uint32_t* codes, int32_t code_stride, int32_t, const uint32_t* prepared,
             int16_t* out) const override {
    kernels().score_block({codes, code_stride, bits_ / 32, prepared, kMagnitudePlanes, out});
  }

 private:
  struct Layer {
    WeightMatrix key, query;
  };

  int32_t columns(int32_t part) const { return std::min(kPartBits, bits_ - part * kPartBits); }

  // From [kv_heads, heads, dim, bits] to [kv_heads, parts, heads, dim, columns of the part].
  std::vector<float> by_part(const std::vector<float>& weights, int32_t heads) const {
    const int32_t matrices = static_cast<int32_t>(weights.size() / (size_t{1} * dim_ * bits_));
    std::vector<float> made;
    made.reserve(weights.size());
    for (int32_t first = 0; first < matrices; first += heads)
      for (int32_t part = 0; part < parts(); part++)
        for (int32_t row = first * dim_; row < (first + heads) * dim_; row++) {
          const auto from = weights.begin() + int64_t{row} * bits_ + part * kPartBits;
          made.insert(made.end(), from, from + columns(part));
        }
    return made;
  }

  // One of the `heads` heads that lie together in a part's piece.
  ProjectOp projection(const WeightMatrix& weight, int32_t kv_head, int32_t part, int32_t head,
                       int32_t heads) const {
    const size_t rows = static_cast<size_t>(heads) * dim_;
    ProjectOp op{};
    op.dim = dim_;
    op.columns = columns(part);
    op.weight_stride = op.columns;
    op.weight = weight.at(kv_head * rows * bits_ + rows * part * kPartBits +
                          static_cast<size_t>(head) * dim_ * op.columns);
    op.bf16 = weight.bf16();
    op.activation = Activation::kNone;
    return op;
  }

  int32_t bits_, dim_, group_;
  std::vector<Layer> layers_;
};

}  // namespace

std::unique_ptr<CodeEncoder> make_linear_asym_encoder(const Artifact& artifact, int32_t layers) {
  return std::make_unique<LinearAsymEncoder>(artifact, layers);
}

}  // namespace spotlight
