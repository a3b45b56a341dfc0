#include "attention/spotlight/spotlight_backend.h"

#include <algorithm>

#include "attention/account.h"
#include "attention/dense/dense_attention.h"
#include "attention/dense/store/append.h"
#include "attention/kernels.h"
#include "attention/policy.h"
#include "attention/spotlight/encode/encoder.h"
#include "attention/spotlight/sparse_attention.h"

namespace spotlight {
namespace {

class SpotlightBackend : public Backend {
 public:
  const char* name() const override { return "spotlight"; }

  size_t thread_scratch(const AttentionContext& context, int32_t max_context) const override {
    check_context(context);
    Carver append(nullptr);
    append.take<float>(static_cast<size_t>(kBlockSize) * context.arena->head_dim);
    int32_t encode = 0;
    for (const Encoder* encoder : context.encoders)
      if (encoder) encode = std::max(encode, code_encoder(encoder)->scratch_floats());
    append.take<float>(encode);
    return std::max({append.used(), DenseAttention::thread_scratch(context),
                     SparseAttention::thread_scratch(context, max_context)});
  }
  size_t team_scratch(const AttentionContext& context, int32_t max_tokens,
                      int32_t max_context) const override {
    return DenseAttention::team_scratch(context) +
           SparseAttention::team_scratch(context, max_tokens, max_context);
  }

  void append(const AttentionContext& context, const LayerIo& io, const RowView* rows,
              int32_t row_count, Team& team) override {
    for_each_slice(context, io, rows, row_count, team, [&](const BlockSlice& slice, int32_t half) {
      store(context, io, slice, half);
      encode(context, io, slice, half, team.scratch);
    });
  }

  void attend(const AttentionContext& context, const LayerIo& io, const RowView* rows,
              int32_t row_count, Team& team) override {
    const Plan plan = plan_rows(context, io.layer, rows, row_count, true);
    Carver shared(team.shared);
    DenseAttention dense(context, io, plan.dense, team.nth, shared);
    SparseAttention sparse(context, io, plan.sparse, team.nth, shared);
    if (team.ith == 0) {
      team.ticket->store(0, std::memory_order_relaxed);
      dense.reset();
      sparse.reset();
      const AttentionShape shape{context.arena->layers, context.arena->kv_heads};
      count_rows(context, shape, io.layer, rows, row_count, plan);
      trace_dense(context, shape, io.layer, plan);
    }
    // Alike pieces, so a fixed share each; the ticket may be taken only after the barrier.
    const int32_t pieces = sparse.encode_pieces();
    for (int32_t i = pieces * team.ith / team.nth; i < pieces * (team.ith + 1) / team.nth; i++)
      sparse.encode(i, team.scratch);
    team.meet();
    sparse.attend_share(team);
    Tickets tickets(team);
    const int32_t dense_pieces = dense.pieces();
    for (int32_t piece; (piece = tickets.next(dense_pieces + sparse.attend_pieces())) >= 0;) {
      if (piece < dense_pieces)
        dense.run(piece, team.scratch);
      else
        sparse.attend(piece - dense_pieces, team.scratch);
    }
  }

 private:
  static void store(const AttentionContext& context, const LayerIo& io, const BlockSlice& slice,
                    int32_t half) {
    const KvArena& arena = *context.arena;
    if (half == 0) {
      store_keys(context, io, slice);
      if (slice.closes())
        kernels().summarise({arena.k_block(io.layer, slice.block, slice.head), arena.head_dim,
                             arena.mean_k_at(io.layer, slice.block, slice.head)});
    } else {
      store_values(context, io, slice);
      if (slice.closes())
        kernels().summarise({arena.v_block(io.layer, slice.block, slice.head), arena.head_dim,
                             arena.mean_v_at(io.layer, slice.block, slice.head)});
    }
  }

  // Codes in every plane that has an encoder. The other half may still be storing these keys, so
  // they are rounded here again.
  static void encode(const AttentionContext& context, const LayerIo& io, const BlockSlice& slice,
                     int32_t half, std::byte* scratch) {
    const KvArena& arena = *context.arena;
    Carver own(scratch);
    float* keys = nullptr;
    for (int32_t plane = 0; plane < kPlanes; plane++) {
      if (!context.encoders[plane] || !context.encoders[plane]->has_layer(io.layer)) continue;
      if (!keys) {
        keys = own.take<float>(static_cast<size_t>(kBlockSize) * arena.head_dim);
        for (int32_t t = 0; t < slice.tokens; t++)
          kernels().code.round_through_half(slice.k + t * io.k_stride, arena.head_dim,
                                            keys + t * arena.head_dim);
      }
      const CodeEncoder& encoder = *code_encoder(context.encoders[plane]);
      Carver rest = own;
      float* memory = rest.take<float>(encoder.scratch_floats());
      uint32_t* codes = arena.codes_block(plane, io.layer, slice.block, slice.head) +
                        static_cast<int64_t>(slice.slot) * arena.code_words;
      for (int32_t part = half; part < encoder.parts(); part += 2)
        encoder.encode_keys(io.layer, slice.head, part, keys, slice.tokens, codes, arena.code_words,
                            memory);
    }
  }
};

}  // namespace

std::unique_ptr<Backend> make_spotlight_backend() { return std::make_unique<SpotlightBackend>(); }

}  // namespace spotlight
