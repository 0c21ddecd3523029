// torch_parallel_for for the libraries of tests/sanitizers.py. Its threads are std::threads, which the
// sanitizers understand, unlike those of torch's pool. Every call is shared out, whatever its grain,
// so that small tensors take the same paths as large ones.
#include "torch_c.h"
#include <algorithm>
#include <thread>
#include <vector>

namespace {
constexpr int64_t kThreads = 3;
}

AOTITorchError torch_parallel_for(int64_t begin, int64_t end, int64_t, ParallelFunc func,
                                  void *ctx) {
  const int64_t n = end - begin, each = (n + kThreads - 1) / kThreads;
  std::vector<std::thread> threads;
  for (int64_t first = begin; first < end; first += each)
    threads.emplace_back(func, first, std::min(end, first + each), ctx);
  for (std::thread &thread : threads)
    thread.join();
  return 0;
}
