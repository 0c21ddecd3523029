// The scalar functions of (kappa, d).
#include "../scalar_function.h"
#include "device.cuh"

namespace {
using namespace spherical;

template <class Family, class T> struct Element {
  ScalarFunctionArguments<T> args;
  __device__ void operator()(int64_t i) const { args.template element<Family>(i); }
};

template <class Family, class T>
void launch_function(Family, const ScalarFunctionArguments<T> &args) {
  launch_elements(args.device, args.operands.rows.n, Element<Family, T>{args});
}

void scalar_function_cuda(StableIValue *stack, uint64_t, uint64_t) {
  unpack_scalar_function(stack,
                         [](auto family, const auto &args) { launch_function(family, args); });
}

const int registered = [] {
  Implementations("CUDA").op("scalar_function", scalar_function_cuda);
  return 0;
}();
} // namespace
