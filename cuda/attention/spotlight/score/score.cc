// Scores on any CPU.
#include "attention/spotlight/score/score_words.h"

namespace spotlight::portable {

void score_block(const ScoreOp& op) { score_words(op); }

}  // namespace spotlight::portable
