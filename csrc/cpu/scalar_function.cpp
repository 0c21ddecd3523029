// The scalar functions of (kappa, d).
#include "../scalar_function.h"
#include "../registration.h"
#include "family_rows.h"
#include "parallel.h"
#include "tiles.h"

namespace {
using namespace spherical;

constexpr int64_t kGrain = 1024; // an element takes 20 to 50 ns

// The divergence from the uniform distribution, its derivative, and the entropy, in float by tiles.
template <class Family>
void kl_uniform(const ScalarFunctionArguments<float> &args, int64_t begin, int64_t end) {
  double kappa[kTile], value[kTile];
  for (int64_t first = begin; first < end; first += kTile) {
    const int64_t n = std::min(kTile, end - first);
    read_concentrations(args.operands, args.kKappa, first, n, float(Family::upper_bound), kappa);
    if (args.function == ScalarFunction::kl_uniform_dkappa)
      OverRows<Family>::kl_uniform_dkappa_for_float(args.dim, n, kappa, value);
    else
      OverRows<Family>::kl_uniform_for_float(args.dim, n, kappa, value);
    if (args.function == ScalarFunction::entropy)
      for (int64_t r = 0; r < n; ++r)
        value[r] = args.dim.log_area - value[r];
    write_scalars(args.operands, args.kValue, first, n, value);
  }
}

template <class Family, class T>
void elements(const ScalarFunctionArguments<T> &args, int64_t begin, int64_t end) {
  const ScalarFunction f = args.function;
  if constexpr (is_float32<T>)
    if (f == ScalarFunction::kl_uniform || f == ScalarFunction::kl_uniform_dkappa ||
        f == ScalarFunction::entropy)
      return kl_uniform<Family>(args, begin, end);
  for (int64_t i = begin; i < end; ++i)
    args.template element<Family>(i);
}

void scalar_function_cpu(StableIValue *stack, uint64_t, uint64_t) {
  unpack_scalar_function(stack, [](auto family, const auto &args) {
    parallel_for(args.operands.rows.n, kGrain,
                 [&](int64_t begin, int64_t end) { elements<decltype(family)>(args, begin, end); });
  });
}

const int registered = [] {
  Implementations("CPU").op("scalar_function", scalar_function_cpu);
  return 0;
}();
} // namespace
