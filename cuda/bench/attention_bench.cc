// The ladder of CPU attention: reference, portable, avx2, avx512. Decode prints microseconds a
// layer while walking over layers as a step does: between two of them every thread reads its share
// of a layer's weights, untimed, so that attention finds its cache as cold as the model leaves it.
// Prefill prints GFLOP/s of its two causal products. usage: attention_bench [--threads N]
// [--isa NAME] [--context N] [--only decode|prefill|rows] [--way dense|spotlight|tail]
#include <sched.h>
#include <time.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <memory>
#include <numeric>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "attention/backend.h"
#include "attention/counters.h"
#include "attention/half.h"
#include "attention/kernels.h"
#include "attention/reference.h"
#include "kv/arenas.h"

namespace spotlight {
namespace {

// SmolLM2-135M's attention.
constexpr int32_t kLayers = 30, kKvHeads = 3, kGroup = 3, kDim = 64, kBits = 128;
constexpr int32_t kQueryHeads = kKvHeads * kGroup;
// The cache touched in one walk over the layers: far above any last-level cache, within a small
// machine's memory.
constexpr size_t kMostCacheBytes = size_t{768} << 20;
// A layer's weights in the default model's file (4-bit), head included.
constexpr size_t kWeightBytes = size_t{3} << 20;

struct Options {
  int32_t threads = 2, context = 0;
  std::string isa, only, way;
};

// Wall clock; with one thread that thread's CPU time, which a busy machine does not stretch.
double now(int32_t threads) {
  timespec time;
  clock_gettime(threads == 1 ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

// One thread a CPU: on a busy machine two spinning threads may otherwise share one.
void pin(int32_t thread) {
  cpu_set_t allowed, one;
  CPU_ZERO(&one);
  if (sched_getaffinity(0, sizeof allowed, &allowed) != 0) return;
  for (int32_t cpu = 0, seen = 0; cpu < CPU_SETSIZE; cpu++)
    if (CPU_ISSET(cpu, &allowed) && seen++ == thread) CPU_SET(cpu, &one);
  if (CPU_COUNT(&one) == 1) sched_setaffinity(0, sizeof one, &one);
}

template <typename T>
struct Buffer {  // 64-byte aligned, zeroed
  explicit Buffer(size_t count) : memory(count * sizeof(T) + 64) {
    void* at = memory.data();
    size_t space = memory.size();
    data = static_cast<T*>(std::align(64, count * sizeof(T), at, space));
  }
  std::vector<std::byte> memory;
  T* data;
};

std::vector<float> normal(size_t count, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> distribution;
  std::vector<float> values(count);
  for (float& x : values) x = distribution(random);
  return values;
}

Artifact artifact(int32_t layers) {
  Artifact made;
  made.encoder = "linear-asym";
  made.bits = kBits;
  made.head_dim = kDim;
  made.query_heads = kQueryHeads;
  made.kv_heads = kKvHeads;
  for (int32_t layer = 0; layer < layers; layer++) {
    LayerCode code;
    code.key = normal(size_t{kKvHeads} * kDim * kBits, 100 + layer);
    code.query = normal(size_t{kQueryHeads} * kDim * kBits, 200 + layer);
    for (auto* weights : {&code.key, &code.query})
      for (float& x : *weights) {  // as shipped: bf16 values
        uint32_t bits;
        std::memcpy(&bits, &x, sizeof bits);
        bits &= 0xffff0000u;
        std::memcpy(&x, &bits, sizeof bits);
        x /= 8;
      }
    made.layers.push_back(std::move(code));
  }
  return made;
}

ModelConfig shape(int32_t layers) {
  ModelConfig config;
  config.layers = layers;
  config.query_heads = kQueryHeads;
  config.kv_heads = kKvHeads;
  config.head_dim = kDim;
  return config;
}

// A full cache of `context` tokens of one sequence, its blocks in random order.
class World {
 public:
  explicit World(int32_t context_tokens)
      : tokens(context_tokens),
        layers(layers_for(context_tokens)),
        blocks((context_tokens + kBlockSize - 1) / kBlockSize),
        arenas(shape(layers), blocks, kBits),
        encoder(make_encoder(artifact(layers), layers)) {
    const KvArena& arena = arenas.view();
    context.arena = &arenas.view();
    context.query_heads = kQueryHeads;
    context.encoders[0] = encoder.get();
    context.counters = &counters;
    table.resize(blocks);
    std::iota(table.begin(), table.end(), 0);
    std::mt19937 random(9);
    std::shuffle(table.begin(), table.end(), random);
    const std::vector<float> values = normal(1 << 16, 4);
    const size_t head_blocks = size_t{1} * layers * blocks * kKvHeads;
    for (size_t i = 0; i < head_blocks * kBlockSize * kDim; i++) {
      arena.k[i] = float_to_half(values[(i * 7 + i / 4093) & 0xffff]);
      arena.v[i] = float_to_half(values[(i * 5 + i / 4091) & 0xffff]);
    }
    for (size_t i = 0; i < head_blocks; i++) {
      kernels().summarise({arena.k + i * kBlockSize * kDim, kDim, arena.mean_k + i * kDim});
      kernels().summarise({arena.v + i * kBlockSize * kDim, kDim, arena.mean_v + i * kDim});
    }
    const std::vector<int32_t> filled(blocks, kBlockSize);
    const auto backend = make_backend("spotlight");
    Buffer<std::byte> scratch(backend->thread_scratch(context, tokens));
    Team team;
    team.scratch = scratch.data;
    rehash_blocks(context, 0, table.data(), filled.data(), blocks, team);
  }

  static int32_t layers_for(int32_t context_tokens) {
    const size_t a_layer = size_t{2} * context_tokens * kKvHeads * kDim * 2;
    return static_cast<int32_t>(
        std::min<size_t>(kLayers, std::max<size_t>(kMostCacheBytes / a_layer, 2)));
  }

  int32_t tokens, layers, blocks;
  Arenas arenas;
  std::unique_ptr<Encoder> encoder;
  AttentionContext context;
  AttentionCounters counters;
  std::vector<int32_t> table;
};

// Seconds a layer over several walks over `layers` layers with a row of `tokens` that ends at the
// context's end: the mean of each layer's fastest, since a busy machine seldom leaves a whole walk
// alone.
struct Walk {
  const char* backend = "spotlight";
  bool generated = false;
  int32_t tokens = 1, threads = 1, layers = 1;
  bool append = true, attend = true;
  LayerPolicy policy;
  bool cold = false;
  double at_least_seconds = 0.7;
};

// Reads this thread's share of what stands for one layer's weights.
uint64_t read_weights(const uint64_t* weights, int32_t layer, int32_t ith, int32_t threads) {
  const size_t words = kWeightBytes / sizeof(uint64_t);
  const uint64_t* from = weights + layer * words + words * ith / threads;
  uint64_t sum = 0;
  for (size_t i = 0; i < words / threads; i++) sum ^= from[i];
  return sum;
}

double seconds_a_layer(World& world, const Walk& walk) {
  const auto backend = make_backend(walk.backend);
  const std::vector<LayerPolicy> policies(world.layers, walk.policy);
  const int32_t tokens = walk.tokens, threads = walk.threads;
  RowView row;
  row.block_table = world.table.data();
  row.tokens = tokens;
  row.position = world.tokens - tokens;
  row.generated = walk.generated;
  row.policies = policies.data();
  const std::vector<float> q = normal(size_t{1} * tokens * kQueryHeads * kDim, 1);
  const std::vector<float> kv = normal(size_t{1} * tokens * kKvHeads * kDim, 2);
  std::vector<float> out(q.size());
  const std::vector<uint64_t> weights(walk.cold ? kWeightBytes / sizeof(uint64_t) * walk.layers : 0,
                                      1);
  std::atomic<uint64_t> read{0};
  Buffer<std::byte> shared(backend->team_scratch(world.context, tokens, world.tokens));
  SpinBarrier barrier;
  std::atomic<int32_t> ticket{0};
  std::vector<double> best(walk.layers, 1e30);
  std::atomic<bool> more{true};
  cpu_set_t before;
  sched_getaffinity(0, sizeof before, &before);
  const auto run = [&](int32_t ith) {
    pin(ith);
    Buffer<std::byte> own(backend->thread_scratch(world.context, world.tokens));
    Team team{ith, threads, &barrier, own.data, shared.data, &ticket};
    const double start = now(threads);
    while (more.load()) {
      for (int32_t layer = 0; layer < walk.layers; layer++) {
        if (walk.cold) read += read_weights(weights.data(), layer, ith, threads);
        team.meet();
        const double begin = now(threads);
        LayerIo io;
        io.layer = layer;
        io.q = q.data();
        io.k = io.v = kv.data();
        io.out = out.data();
        io.q_stride = io.out_stride = kQueryHeads * kDim;
        io.k_stride = io.v_stride = kKvHeads * kDim;
        if (walk.append) backend->append(world.context, io, &row, 1, team);
        if (walk.attend) backend->attend(world.context, io, &row, 1, team);
        team.meet();
        if (ith == 0) best[layer] = std::min(best[layer], now(threads) - begin);
      }
      if (ith == 0 && now(threads) - start > walk.at_least_seconds) more = false;
      team.meet();
    }
  };
  std::vector<std::thread> workers;
  for (int32_t i = 1; i < threads; i++) workers.emplace_back(run, i);
  run(0);
  for (std::thread& worker : workers) worker.join();
  sched_setaffinity(0, sizeof before, &before);
  return std::accumulate(best.begin(), best.end(), 0.0) / walk.layers;
}

double reference_seconds(const World& world, bool sparse, const LayerPolicy& policy) {
  ReferenceCache cache{world.tokens,
                       kKvHeads,
                       kQueryHeads,
                       kDim,
                       normal(size_t{1} * world.tokens * kKvHeads * kDim, 1),
                       normal(size_t{1} * world.tokens * kKvHeads * kDim, 2)};
  const std::vector<float> q = normal(size_t{kQueryHeads} * kDim, 3);
  const Artifact codes = artifact(1);
  const int32_t threads = 1;
  const double begin = now(threads);
  if (sparse)
    reference_sparse(cache, codes, 0, policy, q.data(), world.tokens - 1);
  else
    reference_dense(cache, q.data(), world.tokens - 1);
  return now(threads) - begin;
}

void decode(const Options& options, const std::vector<std::string>& isas) {
  LayerPolicy tail, plain;
  tail.mode = LayerMode::kSparseTail;
  plain.mode = LayerMode::kSparse;
  std::printf("decode, batch 1, %d threads: microseconds a layer\n", options.threads);
  std::printf("%8s %-10s %12s %12s %12s\n", "context", "kernels", "dense", "spotlight", "+ tail");
  for (const int32_t context : {128, 2048, 7900, 32768, 131072}) {
    if (options.context && options.context != context) continue;
    World world(context);
    if (context <= 2048 && options.isa.empty())
      std::printf("%8d %-10s %12.1f %12.1f %12.1f\n", context, "reference",
                  1e6 * reference_seconds(world, false, plain),
                  1e6 * reference_seconds(world, true, plain),
                  1e6 * reference_seconds(world, true, tail));
    for (const std::string& isa : isas) {
      select_isa(isa);
      const auto a_layer = [&](const char* backend, const LayerPolicy& policy) {
        return 1e6 * seconds_a_layer(world, {backend, true, 1, options.threads, world.layers, true,
                                             true, policy, true});
      };
      const auto wanted = [&](const char* way) {
        return options.way.empty() || options.way == way;
      };
      std::printf("%8d %-10s", context, isa.c_str());
      std::printf(" %12.1f", wanted("dense") ? a_layer("dense", plain) : NAN);
      std::printf(" %12.1f", wanted("spotlight") ? a_layer("spotlight", plain) : NAN);
      std::printf(" %12.1f\n", wanted("tail") ? a_layer("spotlight", tail) : NAN);
      std::fflush(stdout);
    }
  }
}

void prefill(const Options& options, const std::vector<std::string>& isas) {
  std::printf("\nprefill, a chunk of 512 tokens at the end of the context, %d threads\n",
              options.threads);
  std::printf("%8s %-10s %12s %12s %14s\n", "context", "kernels", "GFLOP/s", "ms a layer",
              "append, ms");
  for (const int32_t context : {512, 2048, 7900}) {
    if (options.context && options.context != context) continue;
    World world(context);
    for (const std::string& isa : isas) {
      select_isa(isa);
      const int32_t tokens = 512;
      // One layer a walk: a longer one is seldom left alone by the rest of the machine.
      const auto part = [&](bool append, bool attend) {
        return seconds_a_layer(
            world, {"spotlight", false, tokens, options.threads, 1, append, attend, {}});
      };
      const double seconds = part(false, true);
      double flops = 0;  // q.k and p.v of every visible pair
      for (int32_t t = context - tokens; t < context; t++)
        flops += 4.0 * kQueryHeads * kDim * (t + 1);
      std::printf("%8d %-10s %12.1f %12.2f %14.2f\n", context, isa.c_str(), flops / seconds / 1e9,
                  1e3 * seconds, 1e3 * part(true, false));
      std::fflush(stdout);
    }
  }
}

void rows(const Options& options, const std::vector<std::string>& isas) {
  LayerPolicy tail;
  tail.mode = LayerMode::kSparseTail;
  std::printf("\nsparse rows, 512 generated tokens at the end of the context, %d threads\n",
              options.threads);
  std::printf("%8s %-10s %16s\n", "context", "kernels", "us a token, layer");
  for (const int32_t context : {2048, 7900}) {
    if (options.context && options.context != context) continue;
    World world(context);
    for (const std::string& isa : isas) {
      select_isa(isa);
      std::printf("%8d %-10s %16.2f\n", context, isa.c_str(),
                  1e6 / 512 *
                      seconds_a_layer(
                          world, {"spotlight", true, 512, options.threads, 2, false, true, tail}));
      std::fflush(stdout);
    }
  }
}

Options parse(int count, char** words) {
  Options options;
  for (int i = 1; i + 1 < count; i += 2) {
    const std::string flag = words[i];
    if (flag == "--threads") options.threads = std::atoi(words[i + 1]);
    if (flag == "--context") options.context = std::atoi(words[i + 1]);
    if (flag == "--isa") options.isa = words[i + 1];
    if (flag == "--only") options.only = words[i + 1];
    if (flag == "--way") options.way = words[i + 1];
  }
  return options;
}

}  // namespace
}  // namespace spotlight

int main(int count, char** words) {
  using namespace spotlight;
  const Options options = parse(count, words);
  std::vector<std::string> isas;
  for (const char* isa : {"portable", "avx2", "avx512"}) {
    if (!options.isa.empty() && options.isa != isa) continue;
    try {
      select_isa(isa);
      isas.push_back(isa);
    } catch (const std::exception& error) {
      std::printf("%s: %s\n", isa, error.what());
    }
  }
  select_isa("auto");
  if (options.only.empty() || options.only == "decode") decode(options, isas);
  if (options.only.empty() || options.only == "prefill") prefill(options, isas);
  if (options.only.empty() || options.only == "rows") rows(options, isas);
  return 0;
}
