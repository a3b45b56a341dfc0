#include "attention/dense/dense_backend.h"

#include "attention/counters.h"
#include "attention/dense/dense_attention.h"
#include "attention/dense/store/append.h"
#include "attention/policy.h"

namespace spotlight {
namespace {

class DenseBackend : public Backend {
 public:
  const char* name() const override { return "dense"; }
  size_t thread_scratch(const AttentionContext& context, int32_t) const override {
    check_context(context);
    return DenseAttention::thread_scratch(context);
  }
  size_t team_scratch(const AttentionContext& context, int32_t, int32_t) const override {
    return DenseAttention::team_scratch(context);
  }

  void append(const AttentionContext& context, const LayerIo& io, const RowView* rows,
              int32_t row_count, Team& team) override {
    for_each_slice(context, io, rows, row_count, team, [&](const BlockSlice& slice, int32_t half) {
      if (half == 0)
        store_keys(context, io, slice);
      else
        store_values(context, io, slice);
    });
  }

  void attend(const AttentionContext& context, const LayerIo& io, const RowView* rows,
              int32_t row_count, Team& team) override {
    const Plan plan = plan_rows(context, io.layer, rows, row_count, false);
    Carver shared(team.shared);
    DenseAttention dense(context, io, plan.dense, team.nth, shared);
    if (team.ith == 0) {
      team.ticket->store(0, std::memory_order_relaxed);
      dense.reset();
      for (int32_t i = 0; i < row_count; i++) {
        if (rows[i].generated && io.layer == 0 && context.counters)
          context.counters->dense_fallback_rows.fetch_add(1, std::memory_order_relaxed);
        for (int32_t h = 0; rows[i].trace && h < context.arena->kv_heads; h++)
          rows[i].trace[io.layer * context.arena->kv_heads + h].clear();
      }
    }
    team.meet();
    Tickets tickets(team);
    for (int32_t piece; (piece = tickets.next(dense.pieces())) >= 0;)
      dense.run(piece, team.scratch);
  }
};

}  // namespace

std::unique_ptr<Backend> make_dense_backend() { return std::make_unique<DenseBackend>(); }

}  // namespace spotlight
