// The loss of one layer and its gradient, on the CPU. Four passes over fixed pieces of work, whose
// sums are added in the order of the pieces: any number of threads gives the same bits.
#pragma once

#include <memory>
#include <vector>

#include "train/crew.h"
#include "train/head_code.h"
#include "train/pair_loss.h"
#include "train/truth.h"

namespace spotlight::train {

class LayerTrainer {
 public:
  LayerTrainer(const Recipe& recipe, const ModelConfig& config, Crew& crew);

  const Layout& layout() const { return layout_; }
  // Takes a layer's keys and queries, which stay the caller's until the next take().
  void take(const LayerInput& input);
  // Of the queries taken, those that the calls after are about; at first all.
  void choose(int32_t first, int32_t count);
  // Draws the pairs of every head and query. draws: of this step and layer.
  void draw(const Draws& draws);
  // Pairs as given, [heads * rows], instead of drawn: their weights and which others are dropped
  // are still decided here. Queries that see too few tokens must have none.
  void give(std::vector<PairDraw> pairs);
  // Mean loss over the weighted pairs; gradient [layout.layer_size] is overwritten.
  double loss(const float* weights, float* gradient);

  struct Quality {
    double iou = 0, mass = 0;
  };
  // How well sign codes and 4-bit queries of these weights find the tokens with most attention,
  // over all heads and queries: |found and wanted| / |found or wanted|, and the attention that
  // those found hold. As served, but that no sink and no recent token is forced in.
  Quality measure(const float* weights);

  // [heads, rows], after draw or give.
  const std::vector<PairDraw>& pairs() const { return pairs_; }

 private:
  struct Scratch {
    std::vector<float> floats;
    std::vector<float> mass;
    PairDrawer drawer;
    TopFinder finder;
    float* room(int64_t count) {
      if (static_cast<int64_t>(floats.size()) < count) floats.resize(static_cast<size_t>(count));
      return floats.data();
    }
  };
  void each_mass(const std::function<void(int32_t head, int32_t row, const float* mass,
                                          Scratch& scratch)>& body);
  void encode(const float* weights);
  void score();
  void spread();
  void differentiate(const float* weights, float* gradient);
  const float* key_side(int32_t head) const {
    return kt_.data() + layout_.kv_head(head) * kt_size_;
  }
  const float* keys_of(int32_t head) const {
    return input_.k + int64_t{layout_.kv_head(head)} * layout_.head_dim;
  }
  // Codes of a head's keys as they score.
  const float* scored(int32_t head) const {
    const std::vector<float>& codes = recipe_.sign_keys ? key_signs_ : key_codes_;
    return codes.data() + int64_t{head} * input_.tokens * layout_.bits;
  }
  int64_t key_row() const { return int64_t{layout_.kv_heads} * layout_.head_dim; }
  int64_t query_row() const { return int64_t{layout_.query_heads} * layout_.head_dim; }
  int32_t chunks() const;

  Recipe recipe_;
  Layout layout_;
  Crew& crew_;
  std::unique_ptr<HeadCode> code_;
  std::vector<Scratch> scratch_;

  LayerInput taken_, input_;
  int64_t kt_size_ = 0;    // of one KV head
  std::vector<float> kt_;  // [kv_heads, head_dim, key_stride]
  std::vector<PairDraw> pairs_;
  std::vector<float> key_codes_, key_gradient_;  // [heads, tokens, bits] soft codes
  std::vector<float> key_signs_;                 // theirs, where recipe.sign_keys
  std::vector<float> query_codes_;               // [query_heads, rows, bits] soft codes
  std::vector<float> sums_, sums_gradient_;      // [heads, rows, bits] summed over the group
  std::vector<float> score_gradient_;            // [heads, rows, top + other]
  std::vector<PairSums> pair_sums_;              // [heads * rows]
  std::vector<float> partial_;                   // gradients of pieces
};

}  // namespace spotlight::train
