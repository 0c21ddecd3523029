// The checks of parameters and values, each in one pass that keeps no intermediate result.
#include "../constraint.h"
#include "../registration.h"
#include "parallel.h"
#include "sums.h"
#include "tiles.h"

namespace {
using namespace spherical;

constexpr int64_t kRowCost = 16; // see row_grain

// Calls check(x, n, valid) for each tile of n rows x, which sets their valid[0] ... valid[n - 1].
template <class T, class Check> void check_rows(const Constraint<T> &args, const Check &check) {
  const auto &rows = args.operands.rows;
  const int64_t most = tile_rows(rows.d);
  parallel_for(rows.n, row_grain(rows.d, 1, kRowCost), [&](int64_t begin, int64_t end) {
    TileRows<T> tile;
    for (int64_t first = begin; first < end; first += most) {
      const int64_t n = std::min(most, end - first);
      check(read_rows(args.operands, Constraint<T>::kValue, first, n, tile), n, args.valid + first);
    }
  });
}

// valid[r] = whether |x| is 1 within the tolerance, for n rows x of d elements. NaN is not.
template <class T>
SIMD_CLONES void are_units(const T *const *x, int64_t n, int64_t d, T tolerance, bool *valid) {
  const T *const *const rows[1] = {x};
  T squares[1][kTile];
  tile_sums(rows, n, d, squares, [](const auto &in, auto &out) __attribute__((always_inline)) {
    out[0] = in[0] * in[0];
  });
  for (int64_t r = 0; r < n; ++r)
    valid[r] = std::fabs(std::sqrt(squares[0][r]) - T(1)) <= tolerance;
}

void on_sphere_cpu(StableIValue *stack, uint64_t, uint64_t) {
  const double tolerance = unpack_float(stack, 1);
  unpack_constraint("on_sphere", stack, true, [=](const auto &args) {
    check_rows(args, [&](auto x, int64_t n, bool *valid) {
      using T = std::decay_t<decltype(**x)>;
      are_units<T>(x, n, args.operands.rows.d, static_cast<T>(tolerance), valid);
    });
  });
}

void in_interval_cpu(StableIValue *stack, uint64_t, uint64_t) {
  const double lower = unpack_float(stack, 1), upper = unpack_float(stack, 2);
  unpack_constraint("in_interval", stack, false, [=](const auto &args) {
    check_rows(args, [=](auto x, int64_t n, bool *valid) {
      for (int64_t r = 0; r < n; ++r)
        valid[r] = double{*x[r]} >= lower && double{*x[r]} < upper;
    });
  });
}

const int registered = [] {
  Implementations("CPU").op("on_sphere", on_sphere_cpu).op("in_interval", in_interval_cpu);
  return 0;
}();
} // namespace
