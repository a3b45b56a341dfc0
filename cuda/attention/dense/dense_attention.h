// Dense attention over the paged cache as pieces of work: tiles of a prompt, and single tokens
// whose context is split into ranges.
#pragma once

#include "attention/plan.h"

namespace spotlight {

class DenseAttention {
 public:
  // Takes its shared memory from `shared`; alike on every thread.
  DenseAttention(const AttentionContext& context, const LayerIo& io,
                 const std::vector<Segment>& segments, int32_t threads, Carver& shared);
  // By one thread, before a barrier that stands before run().
  void reset();
  int32_t pieces() const { return tile_pieces_ + units_; }
  // Heavy pieces come first.
  void run(int32_t piece, std::byte* scratch) const;

  static size_t thread_scratch(const AttentionContext& context);
  static size_t team_scratch(const AttentionContext& context);

 private:
  struct Single {
    const Segment* segment;
    int32_t token;
  };
  struct Tiles {
    const Segment* segment;
    int32_t begin, count;  // pieces
  };
  void run_tile(int32_t piece, std::byte* scratch) const;
  void run_unit(int32_t unit, std::byte* scratch) const;

  const AttentionContext& context_;
  const LayerIo& io_;
  int32_t group_, dim_;
  int32_t tile_tokens_ = 0, tile_pieces_ = 0, ranges_ = 1, units_ = 0;
  std::vector<Tiles> tiles_;
  std::vector<Single> singles_;
  float* states_ = nullptr;                  // [units][state]
  std::atomic<int32_t>* pending_ = nullptr;  // [items] ranges not finished
};

}  // namespace spotlight
