#include "attention/selectors/selector_backend.h"

#include "attention/plan.h"
#include "attention/selectors/selected_attention.h"
#include "attention/spotlight/spotlight_backend.h"

namespace spotlight {
namespace {

class SelectorBackend : public Backend {
 public:
  const char* name() const override { return "selectors"; }
  size_t thread_scratch(const AttentionContext& context, int32_t max_context) const override {
    return inner_->thread_scratch(context, max_context);
  }
  size_t team_scratch(const AttentionContext& context, int32_t max_tokens,
                      int32_t max_context) const override {
    return inner_->team_scratch(context, max_tokens, max_context);
  }
  void append(const AttentionContext& context, const LayerIo& io, const RowView* rows,
              int32_t row_count, Team& team) override {
    inner_->append(context, io, rows, row_count, team);
  }

  void attend(const AttentionContext& context, const LayerIo& io, const RowView* rows,
              int32_t row_count, Team& team) override {
    // The barrier within the inner backend's attend stands between this and its use.
    if (team.ith == 0) memory_.prepare(context, io.layer, rows, row_count);
    inner_->attend(context, io, rows, row_count, team);
    bool any = false;
    for (int32_t i = 0; i < row_count; i++)
      any = any || (rows[i].policies[io.layer].selector != nullptr &&
                    rows[i].policies[io.layer].mode != LayerMode::kDense);
    if (!any) return;
    const Plan plan = plan_rows(context, io.layer, rows, row_count, true);
    SelectedAttention selected(context, io, rows, row_count, plan, memory_);
    selected.index(team);
    team.meet();
    selected.attend(team);
  }

 private:
  std::unique_ptr<Backend> inner_ = make_spotlight_backend();
  SelectorMemory memory_;
};

}  // namespace

std::unique_ptr<Backend> make_selector_backend() { return std::make_unique<SelectorBackend>(); }

}  // namespace spotlight
