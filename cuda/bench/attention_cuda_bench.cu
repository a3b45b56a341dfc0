// Decode attention of one layer on a GPU, whole and stage by stage: byte floor, dense cuDNN, dense
// FlashInfer and Spotlight in one run, in microseconds, and the error of each answer against fp64.
// Prints one JSON object a line. Every figure is cold: launches walk over so many layers that what
// Spotlight reads between two visits of one exceeds four times the L2.
// usage: attention_cuda_bench [--shape NAMES] [--batch LIST] [--contexts LIST] [--fraction F]
//        [--repetitions N] [--no-errors] [--noise]
// --noise: keys without structure, so that what is selected lies scattered.

#include "bench/attention_methods.cuh"
#include "bench/attention_reference.cuh"

namespace spotlight::bench {
namespace {

constexpr HeadShape kShapes[] = {
    {"qwen2.5-7b", 28, 4, 128}, {"llama-3-8b", 32, 8, 128}, {"qwen3-8b", 32, 8, 128}};
constexpr double kCacheShare = 0.8;  // of free memory that a case's caches may take

struct Options {
  std::vector<std::string> shapes = {"qwen2.5-7b", "llama-3-8b", "qwen3-8b"};
  std::vector<int32_t> batches = {1, 8, 16};
  std::vector<int32_t> contexts = {8192, 32768, 131072, 524288, 1048576, 2097152};
  float fraction = 0.02f;
  int32_t repetitions = 9;
  bool errors = true, structured = true;
};

// What one decode step of one layer must read, in bytes.
struct Bytes {
  double dense = 0, sparse = 0, tail = 0;  // tail: besides sparse
};
Bytes bytes_read(const HeadShape& shape, int32_t batch, int32_t context, int32_t k) {
  const double a_token = 2.0 * shape.kv_heads * shape.head_dim * sizeof(Half);
  const double weights = 2.0 * (shape.query_heads + shape.kv_heads) * shape.head_dim * kCodeBits;
  Bytes bytes;
  bytes.dense = batch * context * a_token;
  bytes.sparse = batch * (context * 4.0 * shape.kv_heads * kCodeWords + k * a_token) + weights;
  bytes.tail = batch * (context / kBlockSize) * a_token;
  return bytes;
}

class Case {
 public:
  Case(const HeadShape& shape, int32_t batch, int32_t context, const Options& options,
       const DeviceFacts& facts, const Timer& timer, double bandwidth)
      : options_(options), facts_(facts), timer_(timer), bandwidth_(bandwidth) {
    policy_.mode = LayerMode::kSparseTail;
    policy_.fraction = options.fraction;
    name_ = std::string(shape.name) + " " + std::to_string(batch) + "x" + std::to_string(context);
    bytes_ = bytes_read(shape, batch, context, budget(policy_, context));
    const double wanted = std::ceil(4.0 * static_cast<double>(facts.l2_bytes) / bytes_.sparse) + 1;
    size_t free_bytes = 0, total = 0;
    CUDA_CHECK(cudaMemGetInfo(&free_bytes, &total));
    const size_t a_set = World::set_bytes(shape, batch, context);
    const double fit = std::floor(kCacheShare * static_cast<double>(free_bytes) / a_set);
    if (fit < 1) {
      throw Error(kOutOfMemory, "one layer's cache takes " + std::to_string(a_set >> 30) +
                                    " GiB, " + std::to_string(free_bytes >> 30) + " are free");
    }
    const auto sets = static_cast<int32_t>(std::min(wanted, fit));
    if (sets < wanted)
      note_ = "only " + std::to_string(sets) + " layers fit, " +
              std::to_string(static_cast<int32_t>(wanted)) + " would exceed 4x the L2";
    world_.emplace(shape, batch, context, sets, options.structured);
  }

  void run() {
    say("byte floor, dense", 1e6 * bytes_.dense / bandwidth_, "us");
    say("byte floor", 1e6 * bytes_.sparse / bandwidth_, "us");
    say("byte floor, tail", 1e6 * (bytes_.sparse + bytes_.tail) / bandwidth_, "us");
    attempt("dense cuDNN",
            [&] { dense<DenseCudnn<gpu::CudnnLayout::kContiguous>>("dense cuDNN"); });
    attempt("dense cuDNN, paged",
            [&] { dense<DenseCudnn<gpu::CudnnLayout::kPaged>>("dense cuDNN, paged"); });
    attempt("dense FlashInfer", [&] { dense<DenseFlashInfer>("dense FlashInfer"); });
    attempt("spotlight", [&] { spotlight(); });
  }

 private:
  template <typename Method>
  void dense(const char* metric) {
    const Method method(*world_, timer_.stream());
    const Launch attend = [&](int32_t visit, cudaStream_t stream) { method.attend(visit, stream); };
    const double us = time(attend);
    if (baseline_ == 0) baseline_ = us;
    say(metric, us, "us", baseline_);
    if (!options_.errors || !Method::kSameTokens) return;
    poison();
    timer_.once(attend, 1);
    const int32_t seq = world_->batch - 1;
    say(std::string("error, ") + metric,
        relative_error(*world_, 0, seq, reference_answer(*world_, 0, seq, {}, false)), "");
  }

  void spotlight() {
    for (const bool tail : {false, true}) whole(tail ? "spotlight, tail" : "spotlight", tail);
    stages();
    if (!options_.errors) return;
    error_of({*world_, policy_, facts_, 1}, policy_, "spotlight", false);
    error_of({*world_, policy_, facts_, 1}, policy_, "spotlight, tail", true);
    LayerPolicy most = policy_;
    most.fraction = static_cast<float>(world_->context - 1) / static_cast<float>(world_->context);
    error_of({*world_, most, facts_, 1}, most, "nearly all tokens", false);
  }

  void whole(const char* metric, bool tail) {
    const Spotlight method(*world_, policy_, facts_, 1);
    const auto all = [&](int32_t visit, cudaStream_t stream) { method.all(visit, tail, stream); };
    say(metric, time(all), "us", baseline_);
  }

  // Each stage by itself, on what the stages before left for every visit.
  void stages() {
    Spotlight method(*world_, policy_, facts_, world_->visits);
    const auto hash = [&](int32_t visit, cudaStream_t stream) {
      method.hash(visit, false, stream);
    };
    const auto score = [&](int32_t visit, cudaStream_t stream) {
      method.score(visit, false, stream);
    };
    timer_.once([&](int32_t visit, cudaStream_t stream) { method.all(visit, false, stream); },
                world_->visits);
    say("hash", time(hash), "us", baseline_);
    // A workspace takes one step at a time: attend leaves it as score wants it.
    const auto renew = [&](int32_t visit, cudaStream_t stream) {
      if (visit == 0) method.forget(stream);
    };
    say("score", time(score, renew), "us", baseline_);
    for (const bool tail : {false, true}) {
      const auto attend = [&](int32_t visit, cudaStream_t stream) {
        method.attend(visit, tail, stream);
      };
      const auto scored = [&](int32_t visit, cudaStream_t stream) {
        renew(visit, stream);
        method.score(visit, tail, stream);
      };
      say(tail ? "select and attend, tail" : "select and attend", time(attend, scored), "us",
          baseline_);
    }
  }

  // Against fp64 over the set that the rule picks from the codes as they are; and whether that set
  // is the one picked.
  void error_of(Spotlight method, const LayerPolicy& policy, const char* what, bool tail) {
    method.keep_trace();
    const int32_t seq = world_->batch - 1;
    poison();
    timer_.once([&](int32_t visit, cudaStream_t stream) { method.all(visit, tail, stream); }, 1);
    const std::vector<uint64_t> masks = reference_masks(*world_, 0, seq, method.query_codes(0, seq),
                                                        selection_rule(policy, world_->context));
    const std::vector<uint64_t> picked = method.trace(seq);
    int64_t differ = 0;
    for (size_t i = 0; i < masks.size(); i++) {
      // The open block is read whole, picked or not.
      const bool open =
          static_cast<int32_t>(i) % world_->seq_blocks == world_->context / kBlockSize;
      differ += open ? 0 : __builtin_popcountll(masks[i] ^ picked[i]);
    }
    say(std::string("tokens picked otherwise, ") + what, static_cast<double>(differ), "tokens");
    say(std::string("error, ") + what,
        relative_error(*world_, 0, seq, reference_answer(*world_, 0, seq, masks, tail)), "");
  }

  // What a method leaves unwritten shows as NaN.
  void poison() {
    CUDA_CHECK(cudaMemsetAsync(world_->out.data(), 0xff, world_->out.bytes(), timer_.stream()));
  }

  double time(const Launch& launch, const Launch& before = nullptr) {
    return timer_.microseconds(launch, world_->visits, options_.repetitions, before);
  }

  template <typename Body>
  void attempt(const char* what, const Body& body) {
    try {
      body();
    } catch (const std::exception& error) {
      std::fprintf(stderr, "%s: %s skipped: %s\n", name_.c_str(), what, error.what());
      CUDA_CHECK(cudaDeviceSynchronize());  // a lost context ends the run
    }
  }

  void say(const std::string& metric, double value, const char* unit, double baseline = 0) {
    print({"attention", name_, metric, value, unit, baseline, facts_.name, note_});
  }

  const Options& options_;
  const DeviceFacts& facts_;
  const Timer& timer_;
  double bandwidth_;
  LayerPolicy policy_;
  std::string name_, note_;
  Bytes bytes_;
  std::optional<World> world_;
  double baseline_ = 0;  // dense cuDNN; FlashInfer without it
};

std::vector<int32_t> numbers_of(const std::string& text) {
  std::vector<int32_t> numbers;
  for (const std::string& word : words_of(text)) numbers.push_back(std::stoi(word));
  return numbers;
}

Options parse(int count, char** words) {
  Options options;
  for (int i = 1; i < count; i++) {
    const std::string flag = words[i];
    if (flag == "--no-errors") {
      options.errors = false;
      continue;
    }
    if (flag == "--noise") {
      options.structured = false;
      continue;
    }
    if (i + 1 == count) throw Error(kInvalidArgument, flag + ": needs a value");
    const std::string value = words[++i];
    if (flag == "--shape")
      options.shapes = words_of(value);
    else if (flag == "--batch")
      options.batches = numbers_of(value);
    else if (flag == "--contexts")
      options.contexts = numbers_of(value);
    else if (flag == "--fraction")
      options.fraction = std::stof(value);
    else if (flag == "--repetitions")
      options.repetitions = std::stoi(value);
    else
      throw Error(kInvalidArgument, flag + ": no such flag");
  }
  return options;
}

const HeadShape& shape_of(const std::string& name) {
  std::string known;
  for (const HeadShape& shape : kShapes) {
    if (name == shape.name) return shape;
    known += std::string(known.empty() ? "" : ", ") + shape.name;
  }
  throw Error(kInvalidArgument, "--shape: " + name + " is none of " + known);
}

void run(const Options& options) {
  const DeviceFacts facts = open_gpu();
  const Timer timer;
  const double bandwidth = read_bandwidth(timer, facts, options.repetitions);
  print({"attention", "device", "read bandwidth", bandwidth / 1e12, "TB/s", 0, facts.name, ""});
  for (const std::string& name : options.shapes)
    for (const int32_t batch : options.batches)
      for (const int32_t context : options.contexts) {
        try {
          Case(shape_of(name), batch, context, options, facts, timer, bandwidth).run();
        } catch (const Error& error) {
          if (std::string(error.code()) != kOutOfMemory) throw;
          std::fprintf(stderr, "%s %dx%d skipped: %s\n", name.c_str(), batch, context,
                       error.what());
        }
      }
}

}  // namespace
}  // namespace spotlight::bench

int main(int count, char** words) {
  try {
    spotlight::bench::run(spotlight::bench::parse(count, words));
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "attention_cuda_bench: %s\n", error.what());
    return 1;
  }
}
