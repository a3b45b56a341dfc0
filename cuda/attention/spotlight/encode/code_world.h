// A layer's cache, two artifacts and packed steps for the tests of the kernels that make codes: on
// the GPU, and on the host as they must become. What is a rounding of exact inputs is compared to
// the bit; a code's bit only where z is away from 0 by more than sums of floats may err, and the
// others are counted.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime_api.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "attention/gpu/view.h"
#include "attention/spotlight/query/query_code.h"
#include "device/cuda/runtime/device_memory.h"
#include "model/rope.h"
#include "test/check.h"

namespace spotlight::gpu::test {

inline float to_float(__nv_bfloat16 x) { return __bfloat162float(x); }
inline float to_float(__half x) { return __half2float(x); }
template <typename T>
T from_float(float x);
template <>
inline __nv_bfloat16 from_float<__nv_bfloat16>(float x) {
  return __float2bfloat16_rn(x);
}
template <>
inline __half from_float<__half>(float x) {
  return __float2half_rn(x);
}

template <typename T>
DeviceBuffer<T> upload(const std::vector<T>& from) {
  DeviceBuffer<T> to(from.size());
  if (!from.empty())
    CUDA_CHECK(cudaMemcpy(to.data(), from.data(), to.bytes(), cudaMemcpyHostToDevice));
  return to;
}
template <typename T>
std::vector<T> download(const DeviceBuffer<T>& from) {
  std::vector<T> to(from.size());
  CUDA_CHECK(cudaDeviceSynchronize());
  if (from.size() > 0)
    CUDA_CHECK(cudaMemcpy(to.data(), from.data(), from.bytes(), cudaMemcpyDeviceToHost));
  return to;
}

template <typename A>
void same_bits(const std::vector<A>& actual, const std::vector<A>& expected, const char* what) {
  if (actual.size() != expected.size())
    check::fail(__FILE__, __LINE__, std::string(what) + ": other shapes");
  size_t wrong = 0, first = 0;
  for (size_t i = actual.size(); i-- > 0;)
    if (std::memcmp(&actual[i], &expected[i], sizeof(A)) != 0) wrong++, first = i;
  if (wrong > 0)
    check::fail(__FILE__, __LINE__,
                std::string(what) + ": " + std::to_string(wrong) + " of " +
                    std::to_string(actual.size()) + " differ, the first at " +
                    std::to_string(first));
}

struct CodeShape {
  int32_t kv_heads = 2, group = 3, head_dim = 64, blocks = 12, seats = 4;
  EncoderKind kinds[kPlanes] = {kLinearAsym, kLinearAsym};
  int32_t bits = 128, hidden = 64;
  int32_t query_heads() const { return kv_heads * group; }
  // Words of a code plane a KV head, one more than any artifact needs, so that a stride is a
  // stride.
  int32_t code_words() const {
    const bool mlp = kinds[0] == kMlp || kinds[1] == kMlp;
    return (mlp ? group : 1) * bits / 32 + 1;
  }
  int32_t code_stride() const { return std::max(kLinearAsymPlanes, group) * bits / 32 + 1; }
};

// Bits that rounding may turn either way, of all.
struct NearZero {
  int64_t near = 0, all = 0;
  void report(const char* what) const {
    std::printf("        %s: %lld of %lld bits near a rounding\n", what,
                static_cast<long long>(near), static_cast<long long>(all));
    CHECK(all > 0 && near * 50 <= all);
  }
};

// bf16 values, and the same on the GPU.
struct WeightArray {
  std::vector<float> host;
  DeviceBuffer<__nv_bfloat16> device;
  WeightArray() = default;
  WeightArray(size_t count, float scale, std::mt19937& random) : host(count) {
    std::normal_distribution<float> normal(0.f, scale);
    std::vector<__nv_bfloat16> rounded(count);
    for (size_t i = 0; i < count; i++) {
      rounded[i] = __float2bfloat16_rn(normal(random));
      host[i] = __bfloat162float(rounded[i]);
    }
    device = upload(rounded);
  }
};

// One plane's artifact of the layer.
struct TestEncoder {
  EncoderKind kind = kNoEncoder;
  WeightArray key, query, w1, w2;
  std::vector<float> b1, b2;
  DeviceBuffer<float> device_b1, device_b2;

  TestEncoder() = default;
  TestEncoder(EncoderKind kind, const CodeShape& shape, std::mt19937& random) : kind(kind) {
    const size_t dim = shape.head_dim, bits = shape.bits, hidden = shape.hidden;
    const float scale = 1.f / std::sqrt(static_cast<float>(dim));
    if (kind == kLinearAsym) {
      key = WeightArray(shape.kv_heads * dim * bits, scale, random);
      query = WeightArray(shape.query_heads() * dim * bits, scale, random);
    } else if (kind == kMlp) {
      w1 = WeightArray(shape.query_heads() * dim * hidden, scale, random);
      w2 = WeightArray(shape.query_heads() * hidden * bits, scale, random);
      std::normal_distribution<float> normal(0.f, 0.1f);
      b1.resize(shape.query_heads() * hidden);
      b2.resize(shape.query_heads() * bits);
      for (float& b : b1) b = normal(random);
      for (float& b : b2) b = normal(random);
      device_b1 = upload(b1);
      device_b2 = upload(b2);
    }
  }

  LayerEncoder view(const CodeShape& shape) const {
    LayerEncoder result;
    result.kind = kind;
    result.linear = {key.device.data(), query.device.data(), shape.bits};
    result.mlp = {w1.device.data(), device_b1.data(), w2.device.data(),
                  device_b2.data(), shape.bits,       shape.hidden};
    return result;
  }
};

// A sum of products in double, and what its floats may be off by.
struct Bounded {
  double value = 0, error = 0;
};

template <typename T>
Bounded dot(const T* x, const float* weights, int32_t rows, int32_t columns, int32_t column,
            double precision) {
  Bounded z;
  for (int32_t i = 0; i < rows; i++) {
    const double product = static_cast<double>(x[i]) * weights[i * columns + column];
    z.value += product;
    z.error += std::fabs(product) * precision;
  }
  return z;
}

inline Bounded mlp_bit(const TestEncoder& encoder, const CodeShape& shape, int32_t head,
                       const std::vector<float>& x, int32_t bit) {
  const int32_t dim = shape.head_dim, hidden = shape.hidden, bits = shape.bits;
  std::vector<double> y(hidden);
  for (int32_t j = 0; j < hidden; j++) {
    const double s =
        dot(x.data(), encoder.w1.host.data() + int64_t{head} * dim * hidden, dim, hidden, j, 0)
            .value +
        encoder.b1[head * hidden + j];
    y[j] = s / (1 + std::exp(-s)) + (hidden == dim ? x[j] : 0.f);
  }
  Bounded z = dot(y.data(), encoder.w2.host.data() + int64_t{head} * hidden * bits, hidden, bits,
                  bit, 1e-4);
  z.value += encoder.b2[head * bits + bit] + (bits == hidden ? y[bit] : 0);
  z.error += 1e-6;
  return z;
}

struct TestToken {
  int32_t seat, position;
};

// Consecutive tokens of one seat.
inline void add_row(std::vector<TestToken>& tokens, int32_t seat, int32_t position, int32_t count) {
  for (int32_t i = 0; i < count; i++) tokens.push_back({seat, position + i});
}

// One step's inputs: q, k and v as columns of one matrix, as the qkv product leaves them.
template <typename T>
struct TestStep {
  std::vector<TestToken> tokens;
  std::vector<Query> queries;
  std::vector<T> qkv;
  std::vector<float> angles;
  int32_t stride = 0, k_at = 0, v_at = 0;
  DeviceBuffer<int32_t> position, seat;
  DeviceBuffer<Query> list;
  DeviceBuffer<T> device_qkv;
  DeviceBuffer<float> device_angles;
  DeviceBuffer<uint32_t> codes;  // [queries, kv_heads, code_stride]

  Queries query_view() const {
    return {list.data(), static_cast<int32_t>(queries.size()), nullptr};
  }
};

inline constexpr uint32_t kPoison = 0xdeadbeef;

template <typename T>
class CodeWorld {
 public:
  CodeWorld(const CodeShape& shape, uint32_t seed) : shape(shape), random(seed) {
    for (int32_t p = 0; p < kPlanes; p++) encoder[p] = TestEncoder(shape.kinds[p], shape, random);
    encoders = upload(std::vector<LayerEncoder>{encoder[0].view(shape), encoder[1].view(shape)});
    const size_t heads = static_cast<size_t>(shape.blocks) * shape.kv_heads;
    T poison;
    const uint16_t nan = 0x7fff;
    std::memcpy(static_cast<void*>(&poison), &nan, sizeof poison);
    k.assign(heads * kBlockSize * shape.head_dim, poison);
    v = k;
    mean_k.assign(heads * shape.head_dim, poison);
    mean_v = mean_k;
    device_k = upload(k);
    device_v = upload(v);
    device_mean_k = upload(mean_k);
    device_mean_v = upload(mean_v);
    for (auto& plane : device_codes)
      plane = upload(std::vector<uint32_t>(heads * kBlockSize * shape.code_words(), kPoison));
    table_stride = shape.blocks / shape.seats;
    tables.resize(shape.seats * table_stride);
    std::iota(tables.begin(), tables.end(), 0);
    std::shuffle(tables.begin(), tables.end(), random);
    device_tables = upload(tables);
    RopeConfig rope;
    rope.theta = 10000.f;
    frequencies = rope_frequencies(rope, shape.head_dim);
  }

  Cache<T> cache() const {
    return {device_k.data(),
            device_v.data(),
            device_mean_k.data(),
            device_mean_v.data(),
            {device_codes[0].data(), device_codes[1].data()},
            shape.kv_heads,
            shape.query_heads(),
            shape.head_dim,
            shape.code_words()};
  }
  Tokens tokens(const TestStep<T>& step) const {
    return {step.position.data(), step.seat.data(), device_tables.data(), table_stride,
            static_cast<int32_t>(step.tokens.size())};
  }

  // Tokens with seat -1 are padding. Every third query is dense, the planes take turns.
  TestStep<T> make_step(const std::vector<TestToken>& tokens) {
    TestStep<T> step;
    step.tokens = tokens;
    step.k_at = shape.query_heads() * shape.head_dim;
    step.v_at = step.k_at + shape.kv_heads * shape.head_dim;
    step.stride = step.v_at + shape.kv_heads * shape.head_dim + 8;
    std::normal_distribution<float> normal;
    std::vector<int32_t> position, seat;
    for (size_t t = 0; t < tokens.size(); t++) {
      position.push_back(tokens[t].position);
      seat.push_back(tokens[t].seat);
      for (int32_t i = 0; i < step.stride; i++) step.qkv.push_back(from_float<T>(normal(random)));
      Query query;
      query.token = static_cast<int32_t>(t);
      query.seat = tokens[t].seat;
      query.mode = query.seat < 0 ? kQueryNone
                   : t % 3 == 2   ? kQueryDense
                   : t % 2 == 0   ? kQuerySparse
                                  : kQueryTail;
      query.plane = static_cast<int32_t>(t / 2 % kPlanes);
      if (shape.kinds[query.plane] == kNoEncoder) query.plane = 1 - query.plane;
      step.queries.push_back(query);
    }
    std::shuffle(step.queries.begin(), step.queries.end(), random);
    step.angles.resize(tokens.size() * shape.head_dim);
    rope_table(frequencies, position.data(), static_cast<int32_t>(position.size()),
               step.angles.data());
    step.position = upload(position);
    step.seat = upload(seat);
    step.list = upload(step.queries);
    step.device_qkv = upload(step.qkv);
    step.device_angles = upload(step.angles);
    step.codes = upload(
        std::vector<uint32_t>(step.queries.size() * shape.kv_heads * shape.code_stride(), kPoison));
    return step;
  }

  // Head `at` elements into token t's columns, turned and rounded.
  std::vector<T> turned(const TestStep<T>& step, int32_t t, int32_t at) const {
    std::vector<float> x(shape.head_dim);
    for (int32_t i = 0; i < shape.head_dim; i++)
      x[i] = to_float(step.qkv[int64_t{t} * step.stride + at + i]);
    rope_rotate(x.data(), 1, shape.head_dim, step.angles.data() + int64_t{t} * shape.head_dim);
    std::vector<T> result;
    for (const float value : x) result.push_back(from_float<T>(value));
    return result;
  }

  int64_t place(const TestToken& token, int32_t head) const {
    const int64_t block = tables[token.seat * table_stride + token.position / kBlockSize];
    return (block * shape.kv_heads + head) * kBlockSize + token.position % kBlockSize;
  }

  // What append must leave on the host's side of the cache.
  void expect(const TestStep<T>& step) {
    const int32_t dim = shape.head_dim;
    for (int32_t t = 0; t < static_cast<int32_t>(step.tokens.size()); t++) {
      const TestToken& token = step.tokens[t];
      if (token.seat < 0) continue;
      for (int32_t h = 0; h < shape.kv_heads; h++) {
        const int64_t at = place(token, h);
        const std::vector<T> key = turned(step, t, step.k_at + h * dim);
        std::copy(key.begin(), key.end(), k.begin() + at * dim);
        const T* value = step.qkv.data() + int64_t{t} * step.stride + step.v_at + h * dim;
        std::copy(value, value + dim, v.begin() + at * dim);
        stored.push_back(at);
        if (token.position % kBlockSize != kBlockSize - 1) continue;
        const int64_t block = at / kBlockSize;
        for (int32_t i = 0; i < dim; i++) {
          mean_k[block * dim + i] = mean(k, block, i);
          mean_v[block * dim + i] = mean(v, block, i);
        }
      }
    }
  }

  // The GPU's cache against what was expected of it; codes of every stored token in every plane
  // that has an artifact, and nothing anywhere else.
  void check_cache(NearZero& count) const {
    same_bits(download(device_k), k, "K");
    same_bits(download(device_v), v, "V");
    same_bits(download(device_mean_k), mean_k, "mean K");
    same_bits(download(device_mean_v), mean_v, "mean V");
    for (int32_t p = 0; p < kPlanes; p++) check_codes(p, count);
  }

  void check_codes(int32_t plane, NearZero& count) const {
    const std::vector<uint32_t> codes = download(device_codes[plane]);
    const int32_t stride = shape.code_words(), words = shape.bits / 32;
    std::vector<int32_t> written(codes.size() / stride, 0);
    for (const int64_t at : stored) {
      if (shape.kinds[plane] == kNoEncoder || written[at]) continue;
      const auto head = static_cast<int32_t>(at / kBlockSize % shape.kv_heads);
      std::vector<float> x;
      for (int32_t i = 0; i < shape.head_dim; i++)
        x.push_back(to_float(k[at * shape.head_dim + i]));
      const int32_t parts = shape.kinds[plane] == kMlp ? shape.group : 1;
      written[at] = parts * words;
      for (int32_t g = 0; g < parts; g++)
        for (int32_t b = 0; b < shape.bits; b++) {
          const Bounded z = shape.kinds[plane] == kMlp
                                ? mlp_bit(encoder[plane], shape, head * shape.group + g, x, b)
                                : key_bit(encoder[plane], head, x, b);
          const uint32_t word = codes[at * stride + g * words + b / 32];
          check_bit(z, (word >> (b % 32) & 1) != 0, "key code", at, b, count);
        }
    }
    for (size_t at = 0; at < written.size(); at++)
      for (int32_t w = written[at]; w < stride; w++)
        if (codes[at * stride + w] != kPoison)
          check::fail(__FILE__, __LINE__,
                      "a code word was written that is nobody's: token " + std::to_string(at) +
                          ", word " + std::to_string(w));
  }

  // q after the step, and the queries' codes.
  void check_queries(const TestStep<T>& step, NearZero& count) const {
    std::vector<T> expected = step.qkv;
    for (int32_t t = 0; t < static_cast<int32_t>(step.tokens.size()); t++) {
      if (step.tokens[t].seat < 0) continue;
      for (int32_t h = 0; h < shape.query_heads(); h++) {
        const std::vector<T> q = turned(step, t, h * shape.head_dim);
        std::copy(q.begin(), q.end(),
                  expected.begin() + int64_t{t} * step.stride + h * shape.head_dim);
      }
    }
    same_bits(download(step.device_qkv), expected, "q, k, v");
    const std::vector<uint32_t> codes = download(step.codes);
    for (size_t i = 0; i < step.queries.size(); i++)
      for (int32_t h = 0; h < shape.kv_heads; h++)
        check_query(step, expected, step.queries[i], h,
                    codes.data() + (i * shape.kv_heads + h) * shape.code_stride(), count);
  }

  CodeShape shape;
  std::mt19937 random;
  TestEncoder encoder[kPlanes];
  DeviceBuffer<LayerEncoder> encoders;
  std::vector<T> k, v, mean_k, mean_v;
  std::vector<int64_t> stored;  // places that hold a token
  DeviceBuffer<T> device_k, device_v, device_mean_k, device_mean_v;
  DeviceBuffer<uint32_t> device_codes[kPlanes];
  std::vector<int32_t> tables;
  int32_t table_stride = 0;
  DeviceBuffer<int32_t> device_tables;
  RopeFrequencies frequencies;

 private:
  T mean(const std::vector<T>& rows, int64_t block, int32_t column) const {
    float sum = 0.f;
    for (int32_t i = 0; i < kBlockSize; i++)
      sum += to_float(rows[(block * kBlockSize + i) * shape.head_dim + column]);
    return from_float<T>(sum * (1.f / kBlockSize));
  }

  Bounded key_bit(const TestEncoder& from, int32_t head, const std::vector<float>& x,
                  int32_t bit) const {
    const int64_t matrix = int64_t{shape.head_dim} * shape.bits;
    return dot(x.data(), from.key.host.data() + head * matrix, shape.head_dim, shape.bits, bit,
               1e-5);
  }

  static void check_bit(const Bounded& z, bool bit, const char* what, int64_t at, int32_t b,
                        NearZero& count) {
    count.all++;
    if (std::fabs(z.value) <= z.error) {
      count.near++;
      return;
    }
    if (bit != (z.value > 0))
      check::fail(__FILE__, __LINE__,
                  std::string(what) + " " + std::to_string(at) + ", bit " + std::to_string(b) +
                      ": z is " + std::to_string(z.value));
  }

  void check_query(const TestStep<T>& step, const std::vector<T>& qkv, const Query& query,
                   int32_t head, const uint32_t* code, NearZero& count) const {
    const bool selects = query.mode == kQuerySparse || query.mode == kQueryTail;
    const EncoderKind kind = selects ? shape.kinds[query.plane] : kNoEncoder;
    const int32_t words = shape.bits / 32, dim = shape.head_dim;
    const int32_t used = kind == kNoEncoder ? 0
                         : kind == kMlp     ? shape.group * words
                                            : kLinearAsymPlanes * words;
    for (int32_t w = used; w < shape.code_stride(); w++) CHECK_EQ(code[w], kPoison);
    if (kind == kNoEncoder) return;
    const TestEncoder& from = encoder[query.plane];
    std::vector<double> u(shape.bits, 0.0);
    for (int32_t g = 0; g < shape.group; g++) {
      const int32_t query_head = head * shape.group + g;
      std::vector<float> x;
      for (int32_t i = 0; i < dim; i++)
        x.push_back(to_float(qkv[int64_t{query.token} * step.stride + query_head * dim + i]));
      for (int32_t b = 0; b < shape.bits; b++) {
        if (kind == kMlp) {
          check_bit(mlp_bit(from, shape, query_head, x, b),
                    (code[g * words + b / 32] >> (b % 32) & 1) != 0, "query code", query.token, b,
                    count);
          continue;
        }
        const double s =
            dot(x.data(), from.query.host.data() + int64_t{query_head} * dim * shape.bits, dim,
                shape.bits, b, 0)
                .value;
        u[b] += s / (1 + std::fabs(s));
      }
    }
    if (kind == kMlp) return;
    double largest = 1e-6;
    for (const double value : u) largest = std::max(largest, std::fabs(value));
    for (int32_t b = 0; b < shape.bits; b++) {
      const double exact = u[b] / largest * 7;
      const auto bit = [&](int32_t p) {
        return static_cast<int32_t>(code[p * words + b / 32] >> (b % 32) & 1);
      };
      const int32_t magnitude = bit(1) + 2 * bit(2) + 4 * bit(3);
      const int32_t value = bit(0) ? magnitude : -magnitude;
      count.all++;
      if (std::fabs(exact - std::floor(exact) - 0.5) < 1e-3) {
        count.near++;
        CHECK(std::fabs(exact - value) < 0.502);
      } else {
        CHECK_EQ(value, static_cast<int32_t>(std::nearbyint(exact)));
      }
      if (magnitude == 0) CHECK_EQ(bit(0), 0);
    }
  }
};

}  // namespace spotlight::gpu::test
