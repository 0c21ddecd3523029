// A family's scalar functions over the rows of a tile: a loop each, unless there is a way for the
// loop to vectorise.
#pragma once
#include "../families.h"
#include "simd.h"

namespace spherical {

template <class Family> struct OverRowsByLoop {
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
};

// For a new family these loops will do, and one over Family::pathwise.
template <class Family> struct OverRows;

namespace vectors {
template <class T> struct VectorOf {
  typedef T type __attribute__((vector_size(32)));
  static constexpr int64_t width = 32 / sizeof(T);
};
template <class T> using Vector = typename VectorOf<T>::type;

template <class T> HD_INLINE void load(const T *from, Vector<T> &v) { memcpy(&v, from, sizeof v); }
} // namespace vectors

template <> struct OverRows<PowerSpherical> : OverRowsByLoop<PowerSpherical> {
  template <class T>
  SIMD_CLONES FLATTEN static void pathwise(const Dim<T> &dim, int64_t n, const T *kappa,
                                           const Chords<T> *c, T *out) {
    using PS = PowerSpherical;
    using Point = PS::PathwisePoint<T>;
    constexpr int64_t width = vectors::VectorOf<T>::width;
    T a[kTile], y[kTile], z[kTile], down[kTile], centered[kTile], q[kTile];
    T inv_top[kTile], x[kTile], l[kTile];
    for (int64_t r = 0; r < n; ++r) {
      const Point point(kappa[r], dim, c[r]);
      a[r] = point.a;
      y[r] = point.y;
      z[r] = point.z;
      down[r] = point.n;
      centered[r] = point.centered;
      inv_top[r] = point.inv_top;
      x[r] = point.x;
      l[r] = point.l;
    }
    const int64_t whole = (n + width - 1) / width * width;
    std::fill(inv_top + n, inv_top + whole, inv_top[n - 1]);
    std::fill(x + n, x + whole, x[n - 1]);
    std::fill(l + n, l + whole, l[n - 1]);
    for (int64_t r = 0; r < n; r += width) {
      vectors::Vector<T> inv_as, xs, ls, sums;
      vectors::load(inv_top + r, inv_as);
      vectors::load(x + r, xs);
      vectors::load(l + r, ls);
      const T least = T(1) / *std::max_element(inv_top + r, inv_top + r + width);
      PS::pathwise_sum<vectors::Vector<T>, T>(inv_as, xs, ls, PS::pathwise_order(least), sums);
      memcpy(q + r, &sums, sizeof sums);
    }
    for (int64_t r = 0; r < n; ++r) {
      Point point;
      point.inv_top = inv_top[r];
      point.l = l[r];
      q[r] = point.expansion(q[r]);
    }
    const auto point_at = [&](int64_t r) __attribute__((always_inline)) {
      Point point;
      point.a = a[r];
      point.y = y[r];
      point.z = z[r];
      return point;
    };
    for (T i = *std::max_element(down, down + n) - T(1); i >= T(0); i -= T(1))
      for (int64_t r = 0; r < n; ++r) {
        T of_c = centered[r], of_q = q[r];
        point_at(r).step_down(i, dim.b, of_c, of_q);
        centered[r] = i < down[r] ? of_c : centered[r];
        q[r] = i < down[r] ? of_q : q[r];
      }
    T raised = T(0);
    for (int64_t r = 0; r < n; ++r) {
      down[r] = point_at(r).raises_b(centered[r]) ? T(1) : T(0);
      raised += down[r];
      out[r] = T(0.5) * q[r];
    }
    if (raised == T(0))
      return;
    T sum[kTile], term[kTile], harmonic[kTile];
    for (int64_t r = 0; r < n; ++r) {
      sum[r] = centered[r];
      term[r] = T(1);
      harmonic[r] = T(0);
    }
    for (int i = 0; i < PS::Pathwise<T>::series; ++i)
      for (int64_t r = 0; r < n; ++r) {
        PS::SeriesInB<T> series(sum[r]);
        series.term = term[r];
        series.harmonic = harmonic[r];
        series.add(T(i), a[r], dim.b, y[r], centered[r]);
        sum[r] = series.sum;
        term[r] = series.term;
        harmonic[r] = series.harmonic;
      }
    for (int64_t r = 0; r < n; ++r)
      out[r] = down[r] > T(0) ? T(0.5) * sum[r] / dim.b : out[r];
  }
};

// The normaliser of von Mises-Fisher, as `resultant` computes it in double, but a vector of rows at
// a time: log_peak, length and complement.
struct ResultantRows {
  double log_peak[kTile], length[kTile], complement[kTile];
};

namespace vectors {
using Doubles = Vector<double>;
constexpr int64_t kWidth = VectorOf<double>::width;

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
    using Limits = VonMisesFisher::Pathwise<T>;
    T rs[kTile], cs[kTile], us[kTile], held[kTile];
    for (int64_t r = 0; r < n; ++r) {
      const VonMisesFisher::PathwisePoint<T> point(kappa[r], dim, c[r]);
      rs[r] = point.r;
      cs[r] = point.c;
      us[r] = point.u;
      held[r] = point.expands() ? T(1) : T(0);
    }
    std::copy(held, held + n, expands);
    const int64_t all = std::count(expands, expands + n, true);
    if (all == 0)
      return false;
    constexpr int64_t width = vectors::VectorOf<T>::width;
    const int64_t whole = (n + width - 1) / width * width;
    std::fill(rs + n, rs + whole, rs[n - 1]);
    std::fill(cs + n, cs + whole, cs[n - 1]);
    std::fill(us + n, us + whole, us[n - 1]);
    const bool all_short = *std::min_element(rs, rs + n) >= Limits::r_short;
    for (int64_t r = 0; r < n; r += width) {
      vectors::Vector<T> at_r, at_c, at_u, value;
      vectors::load(rs + r, at_r);
      vectors::load(cs + r, at_c);
      vectors::load(us + r, at_u);
      const T m = dim.b + dim.b;
      if (all_short)
        VonMisesFisher::pathwise_expansion<Limits::order_short>(at_r, m, at_c, at_u, value);
      else
        VonMisesFisher::pathwise_expansion<Limits::order>(at_r, m, at_c, at_u, value);
      memcpy(held + r, &value, sizeof value);
    }
    std::copy(held, held + n, out);
    return all == n;
  }

  template <class T>
  SIMD_CLONES FLATTEN static T quadrature(T kappa, const Dim<T> &dim, const Chords<T> &c,
                                          const Resultant<T> &a) {
    return VonMisesFisher::pathwise_quadrature(kappa, dim, c, a);
  }
};

} // namespace spherical
