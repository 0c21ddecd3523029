// Runs the blocks of a kernel on the CPU, and stands in for what csrc/cuda asks of torch and the
// loader. The ops become EMULATED_NAMESPACE::*, for CPU tensors.
#include "torch_c.h"
#undef aoti_torch_library_init_def
#undef aoti_torch_library_init_impl
#include <cstdio>
#include <cstdlib>
#include <dlfcn.h>
#include <map>
#include <memory>
#include <ucontext.h>
#include <utility>
#include <vector>

extern "C" {
AOTITorchError aoti_torch_library_init_def(const char *, const char *, uint32_t,
                                           TorchLibraryHandle *);
AOTITorchError aoti_torch_library_init_impl(const char *, const char *, const char *, uint32_t,
                                            TorchLibraryHandle *);
}

dim3 threadIdx, blockIdx, blockDim, gridDim;

namespace {
constexpr size_t kStack = 64 << 10;
constexpr unsigned kBlocks =
    3; // at most so many, whatever is asked for: results may not depend on it

struct Thread {
  ucontext_t context;
  std::unique_ptr<char[]> stack{new char[kStack]};
  alignas(8) char slot[4][8];
  bool done;
};
struct Barrier {
  unsigned arrived = 0, generation = 0;
};

std::vector<Thread> threads(1024);
std::map<std::pair<unsigned, unsigned>, Barrier> barriers;
ucontext_t scheduler;
const std::function<void()> *body;
bool progress;
int guards;
int64_t launches;
bool fails; // whether the next launch does
cudaError_t last_error = cudaSuccess;

void run_thread() {
  (*body)();
  threads[threadIdx.x].done = progress = true;
}

// Runs a warp on its own until its threads are done or wait for others. Says whether any went on.
bool run_warp(unsigned first, bool backwards) {
  bool any = false;
  do {
    progress = false;
    for (unsigned i = 0; i < 32; ++i) {
      threadIdx.x = first + (backwards ? 31 - i : i);
      if (!threads[threadIdx.x].done)
        swapcontext(&scheduler, &threads[threadIdx.x].context);
    }
    any = any || progress;
  } while (progress);
  return any;
}

// False if threads wait forever. Each warp runs ahead of the others as far as the barriers let it.
bool run_block(unsigned size, bool backwards) {
  for (unsigned i = 0; i < size; ++i) {
    Thread &thread = threads[i];
    getcontext(&thread.context);
    thread.context.uc_stack.ss_sp = thread.stack.get();
    thread.context.uc_stack.ss_size = kStack;
    thread.context.uc_link = &scheduler;
    thread.done = false;
    makecontext(&thread.context, run_thread, 0);
  }
  barriers.clear();
  bool any;
  do {
    any = false;
    for (unsigned i = 0; i < size; i += 32)
      any = run_warp(backwards ? size - 32 - i : i, backwards) || any;
  } while (any);
  return std::all_of(threads.begin(), threads.begin() + size, [](Thread &t) { return t.done; });
}
} // namespace

namespace emulated {
void require(bool condition, const char *message) {
  if (condition)
    return;
  std::fprintf(stderr, "emulated CUDA: %s\n", message);
  std::abort();
}

void barrier(unsigned first_thread, unsigned mask, unsigned count) {
  Barrier &here = barriers[{first_thread, mask}];
  const unsigned generation = here.generation, me = threadIdx.x;
  if (++here.arrived == count) {
    here.arrived = 0;
    ++here.generation;
    progress = true;
  }
  while (here.generation == generation)
    swapcontext(&threads[me].context, &scheduler);
}

unsigned generation(unsigned first_thread, unsigned mask) {
  return barriers[{first_thread, mask}].generation;
}

void *slot(unsigned thread, unsigned number) { return threads[thread].slot[number]; }

cudaError_t run(dim3 grid, dim3 block, size_t shared_bytes, cudaStream_t stream,
                const std::function<void()> &thread) {
  require(guards == 1, "a launch without device guard");
  require(stream == &guards, "a launch on another than the current stream");
  require(grid.x > 0 && block.x > 0 && block.x % 32 == 0 && block.x <= 1024,
          "a launch that CUDA rejects, or a block of incomplete warps");
  require(shared_bytes == 0, "dynamic shared memory, which this does not emulate");
  if (std::exchange(fails, false))
    return last_error = cudaErrorLaunchFailure;
  ++launches;
  body = &thread;
  blockDim = block;
  gridDim = dim3(std::min(grid.x, kBlocks));
  for (blockIdx.x = 0; blockIdx.x < gridDim.x; ++blockIdx.x) {
    if (!run_block(block.x, blockIdx.x % 2 == 1))
      return last_error = cudaErrorLaunchFailure;
  }
  return cudaSuccess;
}
} // namespace emulated

const char *cudaGetErrorString(cudaError_t) { return "emulated CUDA: threads wait forever"; }
cudaError_t cudaGetLastError() { return std::exchange(last_error, cudaSuccess); }

extern "C" {
// The kernels that have been launched since the library was loaded.
__attribute__((visibility("default"))) int64_t emulated_launches() { return launches; }
__attribute__((visibility("default"))) void emulated_fail() { fails = true; }
__attribute__((visibility("default"))) int emulated_last_error() { return last_error; }

AOTITorchError emulated_current_stream(int32_t, void **stream) {
  *stream = &guards;
  return 0;
}
void *emulated_dlopen(const char *, int flags) noexcept {
  return flags == (RTLD_LAZY | RTLD_NOLOAD) ? &guards : nullptr;
}
void *emulated_dlsym(void *, const char *) noexcept {
  return reinterpret_cast<void *>(emulated_current_stream);
}
AOTITorchError emulated_create_device_guard(int32_t, DeviceGuardHandle *guard) {
  ++guards;
  *guard = nullptr;
  return 0;
}
AOTITorchError emulated_delete_device_guard(DeviceGuardHandle) {
  --guards;
  return 0;
}
AOTITorchError emulated_library_init_def(const char *, const char *file, uint32_t line,
                                         TorchLibraryHandle *library) {
  return aoti_torch_library_init_def(EMULATED_NAMESPACE, file, line, library);
}
AOTITorchError emulated_library_init_impl(const char *, const char *, const char *file,
                                          uint32_t line, TorchLibraryHandle *library) {
  return aoti_torch_library_init_impl(EMULATED_NAMESPACE, "CPU", file, line, library);
}
}
