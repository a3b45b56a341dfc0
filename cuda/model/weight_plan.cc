#include "model/weight_plan.h"

namespace spotlight {
namespace {

struct Part {
  const char* name;
  const char* gguf;
  const char* hugging_face;
  WeightKind kind;
  int64_t rows, cols;
  bool wanted;
};

}  // namespace

std::vector<PlannedWeight> plan_weights(const ModelConfig& config) {
  const int64_t hidden = config.hidden, inner = config.intermediate, head = config.head_dim;
  const int64_t q = config.query_width(), kv = config.kv_width();
  const bool bias = config.qkv_bias, qk_norm = config.qk_norm;
  constexpr WeightKind kMatrix = WeightKind::kMatrix, kNorm = WeightKind::kNorm,
                       kBias = WeightKind::kBias;
  const Part layer_parts[] = {
      {"attn_norm", "attn_norm.weight", "input_layernorm.weight", kNorm, 1, hidden, true},
      {"q", "attn_q.weight", "self_attn.q_proj.weight", kMatrix, q, hidden, true},
      {"k", "attn_k.weight", "self_attn.k_proj.weight", kMatrix, kv, hidden, true},
      {"v", "attn_v.weight", "self_attn.v_proj.weight", kMatrix, kv, hidden, true},
      {"q_bias", "attn_q.bias", "self_attn.q_proj.bias", kBias, 1, q, bias},
      {"k_bias", "attn_k.bias", "self_attn.k_proj.bias", kBias, 1, kv, bias},
      {"v_bias", "attn_v.bias", "self_attn.v_proj.bias", kBias, 1, kv, bias},
      {"q_norm", "attn_q_norm.weight", "self_attn.q_norm.weight", kNorm, 1, head, qk_norm},
      {"k_norm", "attn_k_norm.weight", "self_attn.k_norm.weight", kNorm, 1, head, qk_norm},
      {"o", "attn_output.weight", "self_attn.o_proj.weight", kMatrix, hidden, q, true},
      {"mlp_norm", "ffn_norm.weight", "post_attention_layernorm.weight", kNorm, 1, hidden, true},
      {"gate", "ffn_gate.weight", "mlp.gate_proj.weight", kMatrix, inner, hidden, true},
      {"up", "ffn_up.weight", "mlp.up_proj.weight", kMatrix, inner, hidden, true},
      {"down", "ffn_down.weight", "mlp.down_proj.weight", kMatrix, hidden, inner, true},
  };
  std::vector<PlannedWeight> plan;
  plan.push_back(
      {"embed", "token_embd.weight", "model.embed_tokens.weight", kMatrix, config.vocab, hidden});
  for (int32_t layer = 0; layer < config.layers; layer++) {
    const std::string at = std::to_string(layer) + ".";
    for (const Part& part : layer_parts) {
      if (!part.wanted) continue;
      plan.push_back({"layers." + at + part.name, "blk." + at + part.gguf,
                      "model.layers." + at + part.hugging_face, part.kind, part.rows, part.cols});
    }
  }
  plan.push_back({"norm", "output_norm.weight", "model.norm.weight", kNorm, 1, hidden});
  if (!config.tied_embeddings)
    plan.push_back({"head", "output.weight", "lm_head.weight", kMatrix, config.vocab, hidden});
  return plan;
}

}  // namespace spotlight
