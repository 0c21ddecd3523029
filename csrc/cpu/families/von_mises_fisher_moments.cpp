// The moments by vectors of rows.
#include "von_mises_fisher_moments.h"

namespace spherical {
namespace {

using V = Vectors<Vector<double>, 2>; // the scalars of some rows

// Rows whose far is not negative, by Debye's expansion.
template <class Wanted>
SIMD_CLONES FLATTEN void by_debye(const Dim<double> &dim, int64_t n, const double *far, int order,
                                  Wanted &a) {
  const double v = dim.b - 0.5;
  constexpr double radius = Debye<double>::radius;
  double kappa[kTile], r[kTile], value[kTile], first[kTile];
  for (int64_t i = 0; i < n; ++i) {
    kappa[i] = far[i] < 0 ? radius : far[i];
    r[i] = std::sqrt(v * v + kappa[i] * kappa[i]);
  }
  fill_vector<V>(r, n);
  for (int64_t i = 0; i < n; i += kWidth<V>) {
    V rs;
    load(r + i, rs);
    const V inv_r = 1.0 / rs, p = v * inv_r;
    const DebyeSums<V, double> sums(inv_r, p * p, order);
    store(sums.value, value + i);
    store(sums.first, first + i);
  }
  for (int64_t i = 0; i < n; ++i)
    a.set(i, !(far[i] < 0),
          moments_from_debye(kappa[i], v, dim.log_area, r[i], value[i], first[i], 0.0));
}

// The factors of the terms of Kummer's series, up to where the terms of this x are negligible.
struct KummerFactors {
  static constexpr int most = 192; // x < 2 radius needs about 130
  double growth[most], share[most], sin2[most];
  int count = 0;

  KummerFactors(double b, double x) {
    KummerTerm<double> factors(b);
    double term = 1, length = 0, latest;
    do {
      for (int i = 0; i < Kummer<double>::group; ++i, ++count) {
        growth[count] = factors.growth();
        factors.next();
        share[count] = factors.share;
        sin2[count] = factors.sin2;
        term *= x * growth[count];
        latest = term * share[count];
        length += latest;
      }
    } while (latest > Kummer<double>::tiny * length && count < most);
  }
};

// Rows with x >= 0, by the series in Kummer's function. The largest x decides the number of
// terms; more terms change nothing in the other rows.
template <class Wanted>
SIMD_CLONES FLATTEN void by_kummer(const Dim<double> &dim, int64_t n, const double *x, Wanted &a) {
  constexpr int group = Kummer<double>::group;
  double near[kTile], total[kTile], length[kTile], sin2[kTile];
  for (int64_t r = 0; r < n; ++r)
    near[r] = std::max(x[r], 0.0);
  fill_vector<V>(near, n);
  const KummerFactors factors(dim.b, *std::max_element(near, near + n));
  for (int64_t r = 0; r < n; r += kWidth<V>) {
    V xs;
    load(near + r, xs);
    V term = xs * 0.0 + 1.0, totals = term, lengths{}, sin2s = term * 0.5;
    for (int first = 0; first < factors.count; first += group) {
      V group_total{}, group_length{}, group_sin2{};
      UNROLL
      for (int i = first; i < first + group; ++i) {
        term *= xs * factors.growth[i];
        group_total += term;
        group_length += term * factors.share[i];
        group_sin2 += term * factors.sin2[i];
      }
      totals += group_total;
      lengths += group_length;
      sin2s += group_sin2;
    }
    store(totals, total + r);
    store(lengths, length + r);
    store(sin2s, sin2 + r);
  }
  for (int64_t r = 0; r < n; ++r)
    a.set(r, x[r] >= 0, moments_from_kummer(near[r], dim.log_area, total[r], length[r], sin2[r]));
}

} // namespace

// Each of the two methods runs over all rows: a row that belongs to the other method gets a harmless
// argument, and its result is dropped. A kappa of NaN belongs to Debye's.
template <class Wanted, class T>
void moments_of_rows(const Dim<double> &dim, int64_t n, const T *kappa, Wanted &a) {
  const double v = dim.b - 0.5;
  double x[kTile], far[kTile];
  int64_t near = 0;
  for (int64_t r = 0; r < n; ++r) {
    const double k = kappa[r];
    const bool kummer = std::sqrt(v * v + k * k) < Debye<double>::radius;
    near += kummer;
    x[r] = kummer ? 2 * k : -1;
    far[r] = kummer ? -1 : k;
  }
  const double least = std::max(v, Debye<double>::radius); // R of no row is less
  if (near < n)
    by_debye(dim, n, far,
             is_float32<T> ? debye_order_for_float(least) : Debye<double>::order(least), a);
  if (near > 0)
    by_kummer(dim, n, x, a);
}

#define MOMENTS_OF_ROWS(Wanted, T)                                                                 \
  template void moments_of_rows(const Dim<double> &, int64_t, const T *, Wanted &);
MOMENTS_OF_ROWS(AtModeOfRows, float)
MOMENTS_OF_ROWS(AtModeOfRows, double)
MOMENTS_OF_ROWS(MeansOfRows, float)
MOMENTS_OF_ROWS(MeansOfRows, double)
MOMENTS_OF_ROWS(UniformOfRows, double)
#undef MOMENTS_OF_ROWS

} // namespace spherical
