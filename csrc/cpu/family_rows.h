// A family's scalar functions over the rows of a tile: a loop each, unless there is a way for the
// loop to vectorise.
#pragma once
#include "../families.h"
#include "simd.h"

namespace spherical {

template <class Family> struct OverRows {
  template <class T>
  SIMD_CLONES FLATTEN static void log_peak(const Dim<T> &dim, int64_t n, const T *kappa, T *out) {
    for (int64_t r = 0; r < n; ++r)
      out[r] = Family::log_peak(kappa[r], dim);
  }
  template <class T>
  SIMD_CLONES FLATTEN static void log_peak_1(const Dim<T> &dim, int64_t n, const T *kappa,
                                             T *out) {
    for (int64_t r = 0; r < n; ++r)
      out[r] = Family::log_peak_1(kappa[r], dim);
  }
  template <class T>
  SIMD_CLONES FLATTEN static void pathwise(const Dim<T> &dim, int64_t n, const T *kappa,
                                           const Chords<T> *c, T *out) {
    for (int64_t r = 0; r < n; ++r)
      out[r] = Family::pathwise(kappa[r], dim, c[r]);
  }
};

// The normaliser of von Mises-Fisher, as `resultant` computes it in double, but a vector of rows at
// a time: log_peak, length and complement.
struct ResultantRows {
  double log_peak[kTile], length[kTile], complement[kTile];
};

namespace vectors {
typedef double Doubles __attribute__((vector_size(32)));
constexpr int64_t kWidth = 4;

HD_INLINE void load(const double *from, Doubles &v) { memcpy(&v, from, sizeof v); }

// total = sum_n t_n, length = sum_n t_n n/(2b + n) and y = sum_n t_n y_n of resultant_kummer, for
// kWidth rows of which `largest` is the largest x.
HD_INLINE void kummer_sums(const Dim<double> &dim, const double *x, double largest, double *total,
                           double *length, double *y) {
  KummerTerm<double> of_n(dim.b);
  Doubles xs;
  load(x, xs);
  Doubles term = xs * 0 + 1, totals = term, lengths{}, ys = term * 0.5;
  double its_term = 1, its_latest = 0, its_length = 0;
  do {
    const double growth = of_n.growth();
    of_n.next();
    term *= xs * growth;
    totals += term;
    lengths += term * of_n.share;
    ys += term * of_n.y;
    its_term *= largest * growth;
    its_latest = its_term * of_n.share;
    its_length += its_latest;
  } while (its_latest > Kummer<double>::tiny * its_length);
  memcpy(total, &totals, sizeof totals);
  memcpy(length, &lengths, sizeof lengths);
  memcpy(y, &ys, sizeof ys);
}

// The sums of resultant_debye for kWidth rows, of which `smallest` is the smallest R.
HD_INLINE void debye_sums(const double *r, const double *p, double smallest, double *value,
                          double *first) {
  Doubles rs, ps;
  load(r, rs);
  load(p, ps);
  const DebyeSums<Doubles, double> sums(1 / rs, ps * ps, Debye<double>::order(smallest));
  memcpy(value, &sums.value, sizeof sums.value);
  memcpy(first, &sums.first, sizeof sums.first);
}
} // namespace vectors

SIMD_CLONES FLATTEN inline void resultants(const Dim<double> &dim, int64_t n, const double *kappa,
                                           ResultantRows &out) {
  using vectors::kWidth;
  constexpr double radius = Debye<double>::radius, inv_2pi = 0.5L / kPi;
  const double v = dim.b - 0.5, log_area = dim.log_area;
  double x[kTile] = {}, far[kTile], r[kTile], p[kTile], first[kTile], second[kTile], third[kTile];
  bool all_near = true, all_far = true;
  for (int64_t i = 0; i < n; ++i) {
    const double of_row = std::sqrt(v * v + kappa[i] * kappa[i]);
    const bool near = of_row < radius;
    all_near = all_near && near;
    all_far = all_far && !near;
    x[i] = near ? 2 * kappa[i] : 0; // rows of the other kind are given a harmless argument
    far[i] = near ? radius : kappa[i];
  }
  std::fill(far + n, far + kTile, radius);
  for (int64_t i = 0; i < kTile; ++i) {
    r[i] = std::sqrt(v * v + far[i] * far[i]);
    p[i] = v / r[i];
  }
  if (!all_near) {
    for (int64_t i = 0; i < n; i += kWidth)
      vectors::debye_sums(r + i, p + i, *std::min_element(r + i, r + i + kWidth), first + i,
                          second + i);
    for (int64_t i = 0; i < n; ++i) {
      const double inv_r2 = 1 / (v * v + far[i] * far[i]), half = (0.5 + second[i]) * inv_r2;
      const double inv_rv = 1 / (r[i] + v), ratio = v / (r[i] + far[i]);
      out.log_peak[i] = v * (log_of((v + r[i]) * inv_2pi) - ratio) +
                        (0.5 * log_of(r[i] * inv_2pi) - first[i]);
      out.length[i] = far[i] * (inv_rv - half);
      out.complement[i] = v * inv_rv * (1 + ratio) + far[i] * half;
    }
  }
  if (all_far)
    return;
  for (int64_t i = 0; i < n; i += kWidth)
    vectors::kummer_sums(dim, x + i, *std::max_element(x + i, x + i + kWidth), first + i,
                         second + i, third + i);
  for (int64_t i = 0; i < n; ++i) {
    const bool near = std::sqrt(v * v + kappa[i] * kappa[i]) < radius;
    const double inv_total = 1 / first[i];
    const double log_peak = -(log_area + log_of(exp_of(-x[i]) * first[i]));
    out.log_peak[i] = near ? log_peak : out.log_peak[i];
    out.length[i] = near ? second[i] * inv_total : out.length[i];
    out.complement[i] = near ? 2 * third[i] * inv_total : out.complement[i];
  }
}

template <> struct OverRows<VonMisesFisher> {
  template <class T>
  SIMD_CLONES FLATTEN static void log_peak_on_sphere(const Dim<T> &dim, int64_t n, const T *kappa,
                                                     T *out) {
    const Dim<T> of_sphere{T(3), T(1), dim.log_area}; // known to the compiler
    for (int64_t r = 0; r < n; ++r)
      out[r] = VonMisesFisher::log_peak(kappa[r], of_sphere);
  }
  template <class T>
  SIMD_CLONES FLATTEN static void log_peak_1_on_sphere(const Dim<T> &dim, int64_t n,
                                                       const T *kappa, T *out) {
    const Dim<T> of_sphere{T(3), T(1), dim.log_area};
    for (int64_t r = 0; r < n; ++r)
      out[r] = VonMisesFisher::log_peak_1(kappa[r], of_sphere);
  }

  template <class T>
  static void log_peak(const Dim<T> &dim, int64_t n, const T *kappa, T *out) {
    if (dim.d == T(3))
      return log_peak_on_sphere(dim, n, kappa, out);
    ResultantRows a;
    in_double(dim, n, kappa, a);
    std::copy(a.log_peak, a.log_peak + n, out);
  }
  template <class T>
  static void log_peak_1(const Dim<T> &dim, int64_t n, const T *kappa, T *out) {
    if (dim.d == T(3))
      return log_peak_1_on_sphere(dim, n, kappa, out);
    ResultantRows a;
    in_double(dim, n, kappa, a);
    std::copy(a.complement, a.complement + n, out);
  }

  template <class T>
  static void pathwise(const Dim<T> &dim, int64_t n, const T *kappa, const Chords<T> *c, T *out) {
    bool expands[kTile];
    if (expansions(dim, n, kappa, c, out, expands))
      return;
    ResultantRows a;
    in_double(dim, n, kappa, a);
    for (int64_t r = 0; r < n; ++r)
      if (!expands[r])
        out[r] = quadrature(kappa[r], dim, c[r],
                            {T(0), static_cast<T>(a.length[r]), static_cast<T>(a.complement[r]),
                             T(0)});
  }

private:
  template <class T>
  static void in_double(const Dim<T> &dim, int64_t n, const T *kappa, ResultantRows &a) {
    double wide[kTile];
    std::copy(kappa, kappa + n, wide);
    resultants(make_dim<double>(static_cast<int64_t>(dim.d)), n, wide, a);
  }

  // Returns whether the expansion holds for all rows.
  template <class T>
  SIMD_CLONES FLATTEN static bool expansions(const Dim<T> &dim, int64_t n, const T *kappa,
                                             const Chords<T> *c, T *out, bool *expands) {
    bool all = true, any = false, all_short = true;
    for (int64_t r = 0; r < n; ++r) {
      const VonMisesFisher::PathwisePoint<T> point(kappa[r], dim, c[r]);
      expands[r] = point.expands();
      all = all && expands[r];
      any = any || expands[r];
      all_short = all_short && point.r >= VonMisesFisher::Pathwise<T>::r_short;
    }
    if (any && all_short)
      expand<VonMisesFisher::Pathwise<T>::order_short>(dim, n, kappa, c, out);
    else if (any)
      expand<VonMisesFisher::Pathwise<T>::order>(dim, n, kappa, c, out);
    return all;
  }
  template <int order, class T>
  static HD_INLINE void expand(const Dim<T> &dim, int64_t n, const T *kappa, const Chords<T> *c,
                               T *out) {
    for (int64_t r = 0; r < n; ++r)
      out[r] = VonMisesFisher::pathwise_expansion<T, order>(
          VonMisesFisher::PathwisePoint<T>(kappa[r], dim, c[r]));
  }

  template <class T>
  SIMD_CLONES FLATTEN static T quadrature(T kappa, const Dim<T> &dim, const Chords<T> &c,
                                          const Resultant<T> &a) {
    return VonMisesFisher::pathwise_quadrature(kappa, dim, c, a);
  }
};

} // namespace spherical
