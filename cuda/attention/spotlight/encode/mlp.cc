// The paper's encoder: per query head one MLP, shared by that head's queries and its KV head's
// keys; code = sign(z). Every query head selects by its own code, so a KV head's code is its
// group's codes side by side and a part is one query head.
#include "attention/kernels.h"
#include "attention/spotlight/encode/encoder.h"
#include "error.h"

namespace spotlight {
namespace {

class MlpEncoder : public CodeEncoder {
 public:
  MlpEncoder(const Artifact& artifact, int32_t layers)
      : bits_(artifact.bits),
        dim_(artifact.head_dim),
        hidden_(artifact.hidden),
        group_(artifact.query_heads / artifact.kv_heads),
        layers_(layers) {
    if (hidden_ < 16 || hidden_ % 16 != 0)
      throw Error(kArtifactMismatch, "the artifact's hidden width must be a multiple of 16, not " +
                                         std::to_string(hidden_));
    const size_t heads = artifact.query_heads;
    for (size_t i = 0; i < artifact.layers.size(); i++) {
      const LayerCode& from = artifact.layers[i];
      if (from.w1.empty()) continue;
      if (from.w1.size() != heads * dim_ * hidden_ || from.b1.size() != heads * hidden_ ||
          from.w2.size() != heads * hidden_ * bits_ || from.b2.size() != heads * bits_)
        throw Error(kArtifactMismatch, "layers." + std::to_string(i) +
                                           ": mlp.w1, b1, w2, b2 must be [query_heads, ...]");
      layers_[i] = {WeightMatrix(from.w1), WeightMatrix(from.w2), from.b1, from.b2};
    }
  }

  bool has_layer(int32_t layer) const override {
    return layer >= 0 && layer < static_cast<int32_t>(layers_.size()) && !layers_[layer].w1.empty();
  }
  int32_t plane_words() const override { return group_ * words(); }
  int32_t parts() const override { return group_; }
  int32_t selections() const override { return group_; }
  int32_t bins() const override { return bits_ + 1; }
  int32_t query_words() const override { return group_ * words(); }
  int32_t prepared_words() const override { return 2 * words(); }
  int32_t scratch_floats() const override { return kEncodeTile * (hidden_ + bits_); }

  void encode_keys(int32_t layer, int32_t kv_head, int32_t part, const float* keys, int32_t tokens,
                   uint32_t* codes, int32_t code_stride, float* scratch) const override {
    encode(layer, kv_head * group_ + part, keys, dim_, tokens, codes + part * words(), code_stride,
           scratch);
  }
  void encode_queries(int32_t layer, int32_t kv_head, int32_t part, const float* queries,
                      int64_t stride, int32_t tokens, uint32_t* out, int64_t out_stride,
                      float* scratch) const override {
    encode(layer, kv_head * group_ + part, queries + part * dim_, stride, tokens,
           out + part * words(), out_stride, scratch);
  }
  void prepare(const uint32_t* query, int32_t selection, uint32_t* prepared) const override {
    for (int32_t w = 0; w < words(); w++) {
      prepared[w] = query[selection * words() + w];
      prepared[words() + w] = ~0u;
    }
  }
  void score(const uint32_t* codes, int32_t code_stride, int32_t selection,
             const uint32_t* prepared, int16_t* out) const override {
    kernels().score_block({codes + selection * words(), code_stride, words(), prepared, 1, out});
  }

 private:
  struct Layer {
    WeightMatrix w1, w2;
    std::vector<float> b1, b2;
  };

  int32_t words() const { return bits_ / 32; }

  void encode(int32_t layer, int32_t head, const float* x, int64_t stride, int32_t tokens,
              uint32_t* codes, int64_t code_stride, float* scratch) const {
    const Layer& weights = layers_[layer];
    const CodeKernels& kernel = kernels().code;
    float* y = scratch;                          // [tokens, hidden]
    float* z = scratch + kEncodeTile * hidden_;  // [tokens, bits]
    ProjectOp first{};
    first.x = x;
    first.x_stride = stride;
    first.rows = tokens;
    first.dim = dim_;
    first.weight = weights.w1.at(static_cast<size_t>(head) * dim_ * hidden_);
    first.weight_stride = hidden_;
    first.bf16 = weights.w1.bf16();
    first.columns = hidden_;
    first.bias = weights.b1.data() + static_cast<size_t>(head) * hidden_;
    first.residual = hidden_ == dim_ ? x : nullptr;
    first.residual_stride = stride;
    first.activation = Activation::kSilu;
    first.z = y;
    first.z_stride = hidden_;
    kernel.project(first);
    ProjectOp second{};
    second.x = y;
    second.x_stride = hidden_;
    second.rows = tokens;
    second.dim = hidden_;
    second.weight = weights.w2.at(static_cast<size_t>(head) * hidden_ * bits_);
    second.weight_stride = bits_;
    second.bf16 = weights.w2.bf16();
    second.columns = bits_;
    second.bias = weights.b2.data() + static_cast<size_t>(head) * bits_;
    second.residual = bits_ == hidden_ ? y : nullptr;
    second.residual_stride = hidden_;
    second.activation = Activation::kNone;
    second.z = z;
    second.z_stride = bits_;
    kernel.project(second);
    for (int32_t t = 0; t < tokens; t++)
      kernel.pack_signs(z + static_cast<int64_t>(t) * bits_, bits_, codes + t * code_stride);
  }

  int32_t bits_, dim_, hidden_, group_;
  std::vector<Layer> layers_;
};

}  // namespace

std::unique_ptr<CodeEncoder> make_mlp_encoder(const Artifact& artifact, int32_t layers) {
  return std::make_unique<MlpEncoder>(artifact, layers);
}

}  // namespace spotlight
