// Runs the cases of one test executable; an argument runs only those whose name contains it.
// Exit status: 0 all passed, 1 some failed, 77 nothing ran because every case lacked its means.
#include <cstdio>
#include <cstring>

#include "test/check.h"

namespace spotlight::check {
std::vector<Case>& cases() {
  static std::vector<Case> all;
  return all;
}
}  // namespace spotlight::check

int main(int argc, char** argv) {
  using namespace spotlight::check;
  int passed = 0, failed = 0, skipped = 0;
  for (const Case& test : cases()) {
    if (argc > 1 && std::strstr(test.name, argv[1]) == nullptr) continue;
    try {
      test.body();
      passed++;
      std::printf("ok      %s\n", test.name);
    } catch (const Skipped& why) {
      skipped++;
      std::printf("skipped %s: %s\n", test.name, why.what());
    } catch (const std::exception& error) {
      failed++;
      std::printf("FAILED  %s: %s\n", test.name, error.what());
    }
    std::fflush(stdout);
  }
  std::printf("%d passed, %d failed, %d skipped\n", passed, failed, skipped);
  if (failed > 0) return 1;
  return passed == 0 && skipped > 0 ? 77 : passed == 0 ? 1 : 0;
}
