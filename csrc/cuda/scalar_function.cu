// Functions of (kappa, d) alone.
#include "../scalar_function.h"
#include "device.cuh"

namespace {
using namespace spherical;

template <class Family, class T> struct Element {
  ScalarFunctionArguments<T> args;
  __device__ void operator()(int64_t i) const { args.template element<Family, T>(i); }
};

void scalar_function_cuda(StableIValue *stack, uint64_t, uint64_t) {
  scalar_function(stack, [](auto family, const auto &args) {
    using T = std::remove_pointer_t<decltype(args.out)>;
    launch_elements(args.device, args.in.rows.n, Element<decltype(family), T>{args});
  });
}

const int registered = [] {
  Implementations("CUDA").op("scalar_function", scalar_function_cuda);
  return 0;
}();
} // namespace
