// The selectors there are, in the order in which tables list them.
#include "attention/selectors/selector.h"

namespace spotlight {

const std::vector<const Selector*>& all_selectors() {
  static const std::vector<const Selector*> all = {
      &oracle_selector(),   &oracle_head_selector(), &window_selector(),   &lsh_selector(),
      &lsh_head_selector(), &quest_selector(),       &magicpig_selector(), &vattention_selector(),
      &h2o_selector(),      &snapkv_selector(),      &fastgen_selector()};
  return all;
}

const Selector* find_selector(const std::string& name) {
  for (const Selector* selector : all_selectors())
    if (name == selector->info().name) return selector;
  return nullptr;
}

}  // namespace spotlight
