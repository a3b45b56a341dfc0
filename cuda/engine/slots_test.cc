#include "engine/slots.h"

#include "test/check.h"

namespace spotlight {
namespace {

struct NoCodes final : Encoder {
  bool has_layer(int32_t) const override { return true; }
  int32_t plane_words() const override { return 4; }
  int32_t selections() const override { return 1; }
};

// Records what it is asked to rehash; nothing else of a device is used by slots.
struct Recording final : Device {
  std::string text = "recording";
  std::vector<int32_t> blocks, filled;
  const Encoder* encoders[kPlanes] = {};
  const std::string& name() const override { return text; }
  const std::string& isa() const override { return text; }
  int32_t threads() const override { return 1; }
  Weight load(const std::vector<const WeightView*>&) override { return {}; }
  bool stackable(const std::vector<const WeightView*>&) const override { return true; }
  int32_t open_pool(int32_t count) override { return count; }
  int32_t depth() const override { return 1; }
  void launch(const Program&, const StepInput&) override {}
  bool finished() override { return true; }
  void finish() override {}
  std::unique_ptr<Encoder> make_encoder(const Artifact&) const override {
    return std::make_unique<NoCodes>();
  }
  void idle() override {}
  void fill(const int32_t*, int32_t, uint64_t) override {}
  void copy_block(int32_t, int32_t) override {}
  void set_encoder(int32_t plane, const Encoder* encoder) override { encoders[plane] = encoder; }
  void rehash(int32_t, const int32_t* ids, const int32_t* counts, int32_t count) override {
    blocks.assign(ids, ids + count);
    filled.assign(counts, counts + count);
  }
};

TEST(blocks_hashed_by_the_slots_artifact_are_fresh) {
  Recording device;
  Slots slots(device, 8);
  slots.set(0, std::make_unique<NoCodes>());
  CHECK_EQ(device.encoders[0], slots.encoder(0));
  slots.appending({3, 5, 1}, 0, 150);
  slots.freshen(0, {3, 5, 1}, 3, 150);
  CHECK(device.blocks.empty());
}

TEST(blocks_of_another_artifact_are_rehashed_once_with_what_they_hold) {
  Recording device;
  Slots slots(device, 8);
  slots.appending({3, 5, 1}, 0, 150);  // no artifact yet
  slots.set(0, std::make_unique<NoCodes>());
  slots.appending({3, 5, 1, 2}, 150, 60);  // fills block 1 up, begins block 2
  slots.freshen(0, {3, 5, 1, 2}, 4, 210);
  CHECK((device.blocks == std::vector<int32_t>{3, 5, 1}));
  CHECK((device.filled == std::vector<int32_t>{64, 64, 64}));
  device.blocks.clear();
  slots.freshen(0, {3, 5, 1, 2}, 4, 210);
  CHECK(device.blocks.empty());
  slots.set(0, std::make_unique<NoCodes>());
  slots.freshen(0, {3, 2}, 2, 82);
  CHECK((device.blocks == std::vector<int32_t>{3, 2}));
  CHECK((device.filled == std::vector<int32_t>{64, 18}));
}

TEST(planes_are_apart_and_an_empty_slot_is_never_rehashed) {
  Recording device;
  Slots slots(device, 8);
  slots.set(0, std::make_unique<NoCodes>());
  slots.appending({0}, 0, 64);
  slots.freshen(1, {0}, 1, 64);
  slots.rehash(1, {0}, {64});
  CHECK(device.blocks.empty());
  slots.set(1, std::make_unique<NoCodes>());
  slots.freshen(1, {0}, 1, 64);
  CHECK((device.blocks == std::vector<int32_t>{0}));
  device.blocks.clear();
  slots.freshen(0, {0}, 1, 64);
  CHECK(device.blocks.empty());
  slots.set(0, nullptr);
  CHECK(device.encoders[0] == nullptr);
}

TEST(a_copy_carries_the_epoch_of_its_original) {
  Recording device;
  Slots slots(device, 8);
  slots.appending({6}, 0, 10);
  slots.set(0, std::make_unique<NoCodes>());
  slots.appending({4}, 0, 10);
  slots.copied(4, 7);
  slots.copied(6, 2);
  slots.freshen(0, {7}, 1, 10);
  CHECK(device.blocks.empty());
  slots.freshen(0, {2}, 1, 10);
  CHECK((device.blocks == std::vector<int32_t>{2}));
}

}  // namespace
}  // namespace spotlight
