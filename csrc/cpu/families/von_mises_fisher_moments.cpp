// The moments by vectors of rows.
#include "von_mises_fisher_moments.h"

namespace spherical {
namespace {

using V = Vectors<Vector<double>, 2>; // the scalars of some rows

// DebyeSums for one v, as polynomials in u = scale/R, where scale is the least R in question:
//   value = sum_n a_n u^n,  first = sum_n n a_n u^n,
//   a_n = sum_{k + 2j = n} c_kj (v/scale)^2j scale^-k,  k = 1 .. order, j = 0 .. k
struct DebyePolynomial {
  static constexpr int most = 60;
  double value[most + 1], first[most + 1];
  int degree;

  DebyePolynomial(double v, double scale, int order) : degree(3 * order + order % 2) { // even
    std::fill_n(value, degree + 1, 0.0);
    const double inverse = 1 / scale, p2 = v * inverse * (v * inverse);
    double power = 1;
    for (int k = 1; k <= order; ++k) {
      power *= inverse;
      double factor = power;
      for (int j = 0; j <= k; ++j, factor *= p2)
        value[k + 2 * j] += DebyeTable<double>::at(k, j) * factor;
    }
    for (int n = 1; n <= degree; ++n)
      first[n] = n * value[n];
  }
};

// The moments by Debye's expansion, which holds for R >= scale.
template <class Wanted>
SIMD_CLONES FLATTEN void by_debye(const Dim<double> &dim, int64_t n, const double *kappa,
                                  double scale, int order, Wanted &a) {
  const double v = dim.b - 0.5;
  const DebyePolynomial polynomial(v, scale, order);
  double r[kTile] = {}, value[kTile], first[kTile] = {};
  for (int64_t i = 0; i < n; ++i)
    r[i] = std::sqrt(v * v + kappa[i] * kappa[i]);
  fill_vector<V>(r, n);
  for (int64_t i = 0; i < n; i += kWidth<V>) {
    V rs;
    load(r + i, rs);
    const V u = scale / rs, u2 = u * u;
    V odd{}, even{}, odd_first{}, even_first{};
    for (int k = polynomial.degree; k > 0; k -= 2) {
      even = even * u2 + polynomial.value[k];
      odd = odd * u2 + polynomial.value[k - 1];
      if constexpr (Wanted::needs_first) {
        even_first = even_first * u2 + polynomial.first[k];
        odd_first = odd_first * u2 + polynomial.first[k - 1];
      }
    }
    store(odd * u + even * u2, value + i);
    if constexpr (Wanted::needs_first)
      store(odd_first * u + even_first * u2, first + i);
  }
  for (int64_t i = 0; i < n; ++i)
    a.set(i, moments_from_debye(kappa[i], v, dim.log_area, r[i], value[i], first[i], 0.0));
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

// The moments by the series in Kummer's function of x = 2 kappa. The largest x decides the number of
// terms; more terms change nothing in the other rows. x is filled up to whole vectors.
template <class Wanted>
SIMD_CLONES FLATTEN void by_kummer(const Dim<double> &dim, int64_t n, double *x, Wanted &a) {
  constexpr int group = Kummer<double>::group;
  double total[kTile], length[kTile], sin2[kTile];
  fill_vector<V>(x, n);
  const KummerFactors factors(dim.b, *std::max_element(x, x + n));
  for (int64_t r = 0; r < n; r += kWidth<V>) {
    V xs;
    load(x + r, xs);
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
    a.set(r, moments_from_kummer(x[r], dim.log_area, total[r], length[r], sin2[r]));
}

} // namespace

// Debye's expansion runs over all rows, and the rows for which it does not hold get the sum of
// Kummer's series instead. A kappa of NaN belongs to Debye's.
template <class Wanted, class T>
void moments_of_rows(const Dim<double> &dim, int64_t n, const T *kappa, Wanted &a) {
  constexpr double radius = Debye<double>::radius;
  const double v = dim.b - 0.5, least = std::max(v, radius); // least R of any row
  double wide[kTile];
  int64_t rows[kTile], near = 0;
  std::copy(kappa, kappa + n, wide);
  if (v < radius)
    near = select_rows(
        n, [&](int64_t r) { return v * v + wide[r] * wide[r] < radius * radius; }, rows);
  if (near < n)
    by_debye(dim, n, wide, least,
             is_float32<T> ? debye_order_for_float(least) : Debye<double>::order(least), a);
  if (near == 0)
    return;
  Wanted some;
  double x[kTile];
  for (int64_t i = 0; i < near; ++i)
    x[i] = 2 * wide[rows[i]];
  by_kummer(dim, near, x, some);
  for (int64_t i = 0; i < near; ++i)
    a.copy(some, i, rows[i]);
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
