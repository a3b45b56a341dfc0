#include "train/layout.h"

#include <algorithm>
#include <cmath>

#include "train/head_code.h"

namespace spotlight::train {

Layout::Layout(const Recipe& recipe, const ModelConfig& config)
    : encoder(recipe.encoder),
      query_heads(config.query_heads),
      kv_heads(config.kv_heads),
      head_dim(config.head_dim),
      bits(recipe.bits),
      heads(encoder == CodeKind::kMlp ? config.query_heads : config.kv_heads),
      queries_a_head(encoder == CodeKind::kMlp ? 1 : config.group()),
      head_size(make_head_code(recipe, config.head_dim)->parameters()),
      layer_size(head_size * (encoder == CodeKind::kMlp ? config.query_heads
                                                        : config.kv_heads + config.query_heads)),
      layers(coded_layers(recipe, config)) {}

void start_weights(const Layout& layout, const Recipe& recipe, float* weights) {
  std::fill_n(weights, layout.size(), 0.f);
  const auto root = [](int32_t width) { return 1 / std::sqrt(static_cast<float>(width)); };
  for (size_t i = 0; i < layout.layers.size(); i++) {
    float* layer = weights + static_cast<int64_t>(i) * layout.layer_size;
    const Draws draws = {recipe.seed, Purpose::kWeights, 0,
                         static_cast<uint32_t>(layout.layers[i])};
    const auto fill = [&](float* to, int64_t count, int32_t head, int64_t from, float scale) {
      for (int64_t n = 0; n < count; n++)
        to[n] = scale * normal(draws, static_cast<uint32_t>(head), static_cast<uint32_t>(from + n));
    };
    for (int32_t h = 0; h < layout.heads; h++) {
      float* head = layer + layout.key(h);
      if (layout.encoder == CodeKind::kLinearAsym) {
        fill(head, layout.head_size, h, 0, root(layout.head_dim));
        for (int32_t g = 0; g < layout.queries_a_head; g++)
          std::copy_n(head, layout.head_size, layer + layout.query(h * layout.queries_a_head + g));
      } else {
        const int64_t first = int64_t{layout.head_dim} * recipe.hidden;
        const int64_t second = int64_t{recipe.hidden} * layout.bits;
        fill(head, first, h, 0, recipe.hidden == layout.head_dim ? 0.001f : root(layout.head_dim));
        fill(head + first + recipe.hidden, second, h, first, root(recipe.hidden));
      }
    }
  }
}

}  // namespace spotlight::train
