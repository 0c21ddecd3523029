// x *= factor; the factor stays on the device.
#include "../multiply.h"
#include "device.cuh"

namespace {
using namespace spherical;

template <class T> struct Element {
  Multiply<T> args;
  __device__ void operator()(int64_t i) const {
    if (const auto by = *args.factor; by != 1)
      args.element(i, by);
  }
};

const int registered = [] {
  Implementations("CUDA").op("multiply_", [](StableIValue *stack, uint64_t, uint64_t) {
    multiply(stack, [](const auto &args) {
      using T = std::remove_pointer_t<decltype(args.x)>;
      launch_elements(args.device, args.n, Element<T>{args});
    });
  });
  return 0;
}();
} // namespace
