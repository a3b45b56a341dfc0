// A test is `TEST(name) { ... }`; a failed check throws, so a test stops at its first wrong fact
// and says where. check_close compares in the order in which a mistake is cheapest to understand:
// shape, NaN and infinity, then the worst value.
#pragma once

#include <cmath>
#include <cstdio>
#include <functional>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "error.h"

namespace spotlight::check {

struct Failure : std::runtime_error {
  using std::runtime_error::runtime_error;
};
// Thrown by skip(): the means are missing (a model file, an instruction set); ctest shows the test
// as skipped.
struct Skipped : std::runtime_error {
  using std::runtime_error::runtime_error;
};

struct Case {
  const char* name;
  void (*body)();
};
std::vector<Case>& cases();
struct Register {
  Register(const char* name, void (*body)()) { cases().push_back({name, body}); }
};

[[noreturn]] inline void fail(const char* file, int line, const std::string& what) {
  std::ostringstream out;
  out << file << ":" << line << ": " << what;
  throw Failure(out.str());
}

template <typename A, typename B>
void equal(const A& actual, const B& expected, const char* text, const char* file, int line) {
  if (actual == expected) return;
  std::ostringstream out;
  out << text << ": got " << actual << ", expected " << expected;
  fail(file, line, out.str());
}

// |actual - expected| <= abs + rel * |expected| for every entry.
inline void close(const float* actual, size_t actual_size, const float* expected,
                  size_t expected_size, double abs, double rel, const char* text, const char* file,
                  int line) {
  std::ostringstream out;
  out << text << ": ";
  if (actual_size != expected_size) {
    out << "got " << actual_size << " values, expected " << expected_size;
    fail(file, line, out.str());
  }
  double worst = 0;
  size_t at = 0, wrong = 0;
  for (size_t i = 0; i < actual_size; i++) {
    const double a = actual[i], e = expected[i];
    if (std::isnan(a) != std::isnan(e) || std::isinf(a) != std::isinf(e)) {
      out << "got " << a << " at " << i << ", expected " << e;
      fail(file, line, out.str());
    }
    if (std::isnan(e) || std::isinf(e)) continue;
    const double excess = std::fabs(a - e) - (abs + rel * std::fabs(e));
    if (excess > 0) wrong++;
    if (excess > 0 && std::fabs(a - e) > worst) worst = std::fabs(a - e), at = i;
  }
  if (wrong == 0) return;
  out << wrong << " of " << actual_size << " values differ, worst at " << at << ": got "
      << actual[at] << ", expected " << expected[at] << " (difference " << worst << ", allowed "
      << abs << " + " << rel << " * |expected|)";
  fail(file, line, out.str());
}

inline void close(const std::vector<float>& actual, const std::vector<float>& expected, double abs,
                  double rel, const char* text, const char* file, int line) {
  close(actual.data(), actual.size(), expected.data(), expected.size(), abs, rel, text, file, line);
}

// The body must throw spotlight::Error with this code and a message that contains `part`.
inline void throws(const std::function<void()>& body, const std::string& code,
                   const std::string& part, const char* file, int line) {
  try {
    body();
  } catch (const Error& error) {
    if (error.code() != code)
      fail(file, line, "expected " + code + ", got " + error.code() + ": " + error.what());
    if (std::string(error.what()).find(part) == std::string::npos)
      fail(file, line, "expected a message with \"" + part + "\", got: " + error.what());
    return;
  }
  fail(file, line, "expected " + code + ", nothing was thrown");
}

[[noreturn]] inline void skip(const std::string& why) { throw Skipped(why); }

}  // namespace spotlight::check

#define TEST(name)                                                         \
  static void test_##name();                                               \
  static ::spotlight::check::Register register_##name{#name, test_##name}; \
  static void test_##name()
#define CHECK(condition)                                                        \
  do {                                                                          \
    if (!(condition)) ::spotlight::check::fail(__FILE__, __LINE__, #condition); \
  } while (0)
#define CHECK_EQ(actual, expected) \
  ::spotlight::check::equal(actual, expected, #actual, __FILE__, __LINE__)
#define CHECK_CLOSE(actual, expected, abs, rel) \
  ::spotlight::check::close(actual, expected, abs, rel, #actual, __FILE__, __LINE__)
#define CHECK_THROWS(statement, code, part) \
  ::spotlight::check::throws([&] { statement; }, code, part, __FILE__, __LINE__)
