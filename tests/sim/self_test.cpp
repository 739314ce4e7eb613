// The simulator's own tests: every wrapper against plain loops, and mistakes that it must notice.
//   self_test              all that must succeed; prints their names
//   self_test --mistakes   prints the names of the mistakes
//   self_test NAME         one of either; a mistake aborts, or ends with "noticed" where its result shows it
// tests/test_gpu_sim.py runs them, each mistake in a process of its own.
#include "self_test.h"

#include "control.h"

using namespace gpu;
using namespace gpu::self_test;

static Cases all(std::initializer_list<Cases> lists) {
  Cases out;
  for (const Cases& list : lists) out.insert(list.begin(), list.end());
  return out;
}

int main(int count, char** arguments) {
  const Cases tests = all({threads_tests(), ampere_tests(), hopper_tests(), wgmma_tests(), host_tests()});
  const Cases mistakes = all({kernel_mistakes(), ampere_mistakes(), wgmma_mistakes(), host_mistakes()});
  const std::string what = count > 1 ? arguments[1] : "";
  if (what == "--mistakes") {
    for (const auto& [name, run] : mistakes) printf("%s\n", name.c_str());
    return 0;
  }
  if (mistakes.count(what)) {
    mistakes.at(what)();
    printf("not noticed\n");
    return 1;
  }
  for (const auto& [name, run] : tests)
    if (what.empty() || what == name) {
      run();
      CHECK(live_bytes() == 0 && live_pinned_bytes() == 0 && live_streams() == 0);
      printf("%s\n", name.c_str());
    }
  return 0;
}
