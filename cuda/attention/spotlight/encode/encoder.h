// One artifact's codes: keys to bits, queries to what a selection scores with. Immutable, shared by
// all threads. Work divides into parts of a token tile and KV head, so that one decode token with
// three KV heads still feeds every thread.
#pragma once

#include <memory>
#include <vector>

#include "attention/backend.h"
#include "attention/spotlight/score/score.h"

namespace spotlight {

inline constexpr int32_t kEncodeTile = kBlockSize;  // most tokens of one call

class CodeEncoder : public Encoder {
 public:
  // Parts of one KV head's encoding, of keys or of queries.
  virtual int32_t parts() const = 0;
  // Scores lie in [0, bins).
  virtual int32_t bins() const = 0;
  // 32-bit words of encoded queries a token and KV head.
  virtual int32_t query_words() const = 0;
  // Words of what score() reads, made by prepare().
  virtual int32_t prepared_words() const = 0;
  // Floats of scratch an encode call needs.
  virtual int32_t scratch_floats() const = 0;

  // keys [tokens, head_dim], as the cache holds them; codes of token t at codes + t * code_stride.
  // Writes only the part's words.
  virtual void encode_keys(int32_t layer, int32_t kv_head, int32_t part, const float* keys,
                           int32_t tokens, uint32_t* codes, int32_t code_stride,
                           float* scratch) const = 0;
  // queries: the group's heads of token t at queries + t * stride; writes the part's share of
  // query_words() at out + t * out_stride.
  virtual void encode_queries(int32_t layer, int32_t kv_head, int32_t part, const float* queries,
                              int64_t stride, int32_t tokens, uint32_t* out, int64_t out_stride,
                              float* scratch) const = 0;
  // From all parts of one token and KV head to the planes one selection scores with.
  virtual void prepare(const uint32_t* query, int32_t selection, uint32_t* prepared) const = 0;
  // Scores one block of codes; out [64].
  virtual void score(const uint32_t* codes, int32_t code_stride, int32_t selection,
                     const uint32_t* prepared, int16_t* out) const = 0;
};

inline const CodeEncoder* code_encoder(const Encoder* encoder) {
  return static_cast<const CodeEncoder*>(encoder);
}

// Weights of one projection of every head: bf16 where that loses nothing (a decode step reads them
// all), f32 otherwise.
class WeightMatrix {
 public:
  WeightMatrix() = default;
  explicit WeightMatrix(const std::vector<float>& values);
  bool empty() const { return wide_.empty() && narrow_.empty(); }
  bool bf16() const { return !narrow_.empty(); }
  const void* at(size_t index) const {
    return bf16() ? static_cast<const void*>(narrow_.data() + index) : wide_.data() + index;
  }

 private:
  std::vector<float> wide_;
  std::vector<uint16_t> narrow_;
};

// What no device takes. Throws ARTIFACT_MISMATCH naming the field.
void check_artifact(const Artifact& artifact, int32_t layers);

std::unique_ptr<CodeEncoder> make_linear_asym_encoder(const Artifact& artifact, int32_t layers);
std::unique_ptr<CodeEncoder> make_mlp_encoder(const Artifact& artifact, int32_t layers);

}  // namespace spotlight
