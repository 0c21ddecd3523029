// von Mises-Fisher over the rows of a tile. The moments are computed in double, by vectors of rows;
// log_prob_at_mode, log_prob_at_mode_dkappa and implicit_gradient come from them.
#pragma once
#include "../../math/von_mises_fisher.h"
#include "../over_rows.h"

namespace spherical {

template <> struct OverRows<VonMisesFisher> : LoopsOverRows<VonMisesFisher> {
  template <class T>
  static void log_prob_at_mode(const Dim<double> &dim, int64_t n, const T *kappa, double *out) {
    if (dim.d == 3)
      return log_prob_at_mode_on_sphere(dim, n, kappa, out);
    TileMoments<> a;
    tile_moments(dim, n, kappa, a);
    std::copy(a.at_mode, a.at_mode + n, out);
  }

  template <class T>
  static void log_prob_at_mode_dkappa(const Dim<T> &dim, int64_t n, const T *kappa, T *out) {
    if (dim.d == T(3))
      return log_prob_at_mode_dkappa_on_sphere(dim, n, kappa, out);
    TileMoments<> a;
    tile_moments(make_dim<double>(static_cast<int64_t>(dim.d)), n, kappa, a);
    std::copy(a.one_minus_mean, a.one_minus_mean + n, out);
  }

  static void log_prob_at_mode_over_uniform(const Dim<double> &dim, int64_t n, const double *kappa,
                                            double *out) {
    TileMoments<Normaliser::over_uniform> a;
    tile_moments(dim, n, kappa, a);
    for (int64_t r = 0; r < n; ++r)
      out[r] = kappa[r] < 1 ? Family::log_prob_at_mode_over_uniform(kappa[r], dim) : a.at_mode[r];
  }

  // log p(mu) + log_area - kappa E[1 - t]. The terms are 2 d/kappa times the result at most, of
  // which double has enough digits for kappa >= 1.
  static void kl_uniform_for_float(const Dim<double> &dim, int64_t n, const double *kappa,
                                   double *out) {
    TileMoments<Normaliser::over_uniform> a;
    tile_moments(dim, n, kappa, a);
    for (int64_t r = 0; r < n; ++r)
      out[r] = kappa[r] < 1 ? Family::kl_uniform(kappa[r], dim)
                            : a.at_mode[r] - kappa[r] * a.one_minus_mean[r];
  }

  // kappa Var[t] = kappa (1 - A^2) - (d - 1) A for the mean A. The terms are 2 max(d, kappa) times
  // the variance at most, of which double has enough digits up to `largest`.
  static void kl_uniform_dkappa_for_float(const Dim<double> &dim, int64_t n, const double *kappa,
                                          double *out) {
    constexpr double largest = 0x1p20;
    TileMoments<Normaliser::over_uniform> a;
    tile_moments(dim, n, kappa, a);
    for (int64_t r = 0; r < n; ++r)
      out[r] = kappa[r] < 1 || kappa[r] > largest
                   ? Family::kl_uniform_dkappa(kappa[r], dim)
                   : kappa[r] * a.one_minus_mean[r] * (1 + a.mean[r]) - 2 * dim.b * a.mean[r];
  }

  template <class T>
  static void implicit_gradient(const Dim<T> &dim, int64_t n, const T *kappa, const HalfAngle<T> *c,
                                T *out) {
    bool done[kTile];
    if (expand(dim, n, kappa, c, out, done))
      return;
    if constexpr (is_float32<T>)
      if (step_down(dim, n, kappa, c, out, done))
        return;
    TileMoments<> a;
    tile_moments(make_dim<double>(static_cast<int64_t>(dim.d)), n, kappa, a);
    for (int64_t r = 0; r < n; ++r)
      if (!done[r])
        out[r] = quadrature<T>(kappa[r], dim, c[r],
                               {T(0), T(0), T(a.mean[r]), T(a.one_minus_mean[r]), T(0)});
  }

private:
  using Family = VonMisesFisher;

  using V = Vectors<Vector<double>, 2>; // the scalars of some rows

  enum class Normaliser { none, over_uniform };

  // The moments of each row; at_mode is log_prob_at_mode, or that over the uniform distribution.
  template <Normaliser normaliser = Normaliser::none> struct TileMoments {
    double at_mode[kTile], mean[kTile], one_minus_mean[kTile];
    HD_INLINE void set(int64_t r, bool keep, const Moments<double> &a) {
      const double value = normaliser == Normaliser::over_uniform ? a.log_prob_at_mode_over_uniform
                                                                  : a.log_prob_at_mode;
      at_mode[r] = keep ? value : at_mode[r];
      mean[r] = keep ? a.mean : mean[r];
      one_minus_mean[r] = keep ? a.one_minus_mean : one_minus_mean[r];
    }
  };

  // On S^2 the functions are closed forms. The compiler is told that d = 3, so these loops
  // vectorise.
  template <class T> static HD_INLINE Dim<T> on_sphere(const Dim<T> &dim) {
    return {T(3), T(1), dim.log_area};
  }
  template <class T>
  SIMD_CLONES FLATTEN static void log_prob_at_mode_on_sphere(const Dim<double> &dim, int64_t n,
                                                             const T *kappa, double *out) {
    for (int64_t r = 0; r < n; ++r)
      out[r] = Family::log_prob_at_mode(double{kappa[r]}, on_sphere(dim));
  }
  template <class T>
  SIMD_CLONES FLATTEN static void log_prob_at_mode_dkappa_on_sphere(const Dim<T> &dim, int64_t n,
                                                                    const T *kappa, T *out) {
    for (int64_t r = 0; r < n; ++r)
      out[r] = Family::log_prob_at_mode_dkappa(kappa[r], on_sphere(dim));
  }

  // Computes `moments` of each row in double, without the variance; if T is float, only to a few
  // roundings of float. Each of the two methods runs over all rows: a row that belongs to the other
  // method gets a harmless argument, and its result is dropped. A kappa of NaN belongs to Debye's.
  template <class T, class Tile>
  static void tile_moments(const Dim<double> &dim, int64_t n, const T *kappa, Tile &a) {
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

  // Rows whose far is not negative, by Debye's expansion.
  template <class Tile>
  SIMD_CLONES FLATTEN static void by_debye(const Dim<double> &dim, int64_t n, const double *far,
                                           int order, Tile &a) {
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

    HD_INLINE KummerFactors(double b, double x) {
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
  template <class Tile>
  SIMD_CLONES FLATTEN static void by_kummer(const Dim<double> &dim, int64_t n, const double *x,
                                            Tile &a) {
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

  // Sets done[r] where the expansion holds, and out[r] to the implicit_gradient there. Returns
  // whether it holds for all rows.
  template <class T>
  SIMD_CLONES FLATTEN static bool expand(const Dim<T> &dim, int64_t n, const T *kappa,
                                         const HalfAngle<T> *c, T *out, bool *done) {
    T r[kTile], ratio[kTile], u[kTile], value[kTile];
    for (int64_t i = 0; i < n; ++i) {
      const Family::ImplicitGradientPoint<T> point(kappa[i], dim, c[i]);
      r[i] = point.r;
      ratio[i] = point.c;
      u[i] = point.u;
      value[i] = point.expands() ? T(1) : T(0);
    }
    std::copy(value, value + n, done);
    const int64_t count = std::count(done, done + n, true);
    if (count == 0)
      return false;
    for (T *values : {r, ratio, u})
      fill_vector<Vector<T>>(values, n);
    const T m = dim.b + dim.b; // R >= m
    for (int64_t i = 0; i < n; i += VectorOf<T>::width) {
      Vector<T> at_r, at_ratio, at_u, result;
      load(r + i, at_r);
      load(ratio + i, at_ratio);
      load(u + i, at_u);
      if (m < Family::ImplicitGradient<T>::r_short)
        Family::implicit_gradient_expansion<Family::ImplicitGradient<T>::order>(at_r, m, at_ratio,
                                                                                at_u, result);
      else
        Family::implicit_gradient_expansion<Family::ImplicitGradient<T>::order_short>(
            at_r, m, at_ratio, at_u, result);
      store(result, value + i);
    }
    std::copy(value, value + n, out);
    return count == n;
  }

  // Sets out[r] to the implicit_gradient, and done[r], where the expansion does not hold since R is
  // small: from the leading term of the expansion in dimension d + 2n, downward to d
  // (docs/numerics.md#implicit-gradient). In double, of which float takes the first digits. Returns
  // whether all rows are done.
  SIMD_CLONES FLATTEN static bool step_down(const Dim<float> &dim, int64_t n, const float *kappa,
                                            const HalfAngle<float> *c, float *out, bool *done) {
    constexpr double start = 46; // m = d - 1 at the start: what that neglects is then below 2e-8
    constexpr int least = 4, most = static_cast<int>(start) / 2 + 1;
    const double m = dim.b + dim.b;
    const int steps = std::max(least, static_cast<int>(std::ceil(0.5 * (start - m))));
    const double top = m + 2 * steps;
    double k[kTile], t[kTile], both[kTile], e[kTile], q[kTile], within[kTile];
    for (int64_t r = 0; r < n; ++r) {
      const double x = kappa[r], sin2 = c[r].sin2, cos2 = c[r].cos2;
      const double nearer = sin2 < cos2 ? sin2 : cos2; // in double, 1 - nearer has all its digits
      const bool is_small = std::sqrt(m * m + 4 * x * x) < Family::ImplicitGradient<float>::r_min;
      within[r] = is_small && !done[r] ? 1 : 0;
      k[r] = is_small ? x : 0;
      t[r] = sin2 < cos2 ? 1 - 2 * nearer : 2 * nearer - 1;
      both[r] = 4 * nearer * (1 - nearer); // 1 - t^2
      const double radius = std::sqrt(top * top + 4 * k[r] * k[r]);
      const double above_mode = t[r] - 2 * k[r] / (top + radius);
      e[r] = (0.5 * top + std::sqrt(0.25 * (top + 2) * (top + 2) + k[r] * k[r])) / (top + 1);
      q[r] = e[r] / (radius + k[r] * above_mode);
    }
    for (double *values : {k, t, both, e, q})
      fill_vector<V>(values, n);
    static_assert(most <= kTile);
    double inv_m[most], inv_m1[most], inv_m13[most];
    for (int j = 0; j < steps; ++j) {
      const double mj = m + 2 * j;
      inv_m[j] = 1 / mj;
      inv_m1[j] = 1 / (mj + 1);
      inv_m13[j] = 1 / ((mj + 1) * (mj + 3));
    }
    for (int64_t r = 0; r < n; r += kWidth<V>) {
      V kappas, ts, rest, now, value, before = V{} + 1.0;
      load(k + r, kappas);
      load(t + r, ts);
      load(both + r, rest);
      load(e + r, now);
      load(q + r, value);
      const V square = kappas * kappas, along = kappas * ts;
      rest *= square;
      for (int j = steps - 1; j >= 0; --j) {
        const V next = now + square * inv_m13[j] * before;
        value = (next - inv_m1[j] * (along * now + rest * value)) * inv_m[j];
        before = now;
        now = next;
      }
      store(value / now, q + r);
    }
    bool all = true;
    for (int64_t r = 0; r < n; ++r) {
      out[r] = within[r] > 0 ? static_cast<float>(q[r]) : out[r];
      done[r] |= within[r] > 0;
      all &= done[r];
    }
    return all;
  }

  // The implicit_gradient of one row, by a loop over nodes that vectorises.
  template <class T>
  SIMD_CLONES FLATTEN static T quadrature(T kappa, const Dim<T> &dim, const HalfAngle<T> &c,
                                          const Moments<T> &a) {
    return Family::implicit_gradient_quadrature(kappa, dim, c, a);
  }
};

} // namespace spherical
