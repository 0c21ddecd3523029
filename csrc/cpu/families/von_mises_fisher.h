// von Mises-Fisher over the rows of a tile: log_prob_at_mode, log_prob_at_mode_dkappa and
// implicit_gradient come from the moments, unless a form in few terms holds.
#pragma once
#include "../../math/von_mises_fisher.h"
#include "../../sphere.h"
#include "../over_rows.h"
#include "von_mises_fisher_moments.h"

namespace spherical {

template <> struct OverRows<VonMisesFisher> : LoopsOverRows<VonMisesFisher> {
  template <class T>
  static void log_prob_at_mode(const Dim<double> &dim, int64_t n, const T *kappa, double *out) {
    if (dim.d == 3)
      return log_prob_at_mode_on_sphere(dim, n, kappa, out);
    AtModeOfRows a;
    moments_of_rows(dim, n, kappa, a);
    std::copy(a.at_mode, a.at_mode + n, out);
  }

  template <class T>
  static void log_prob_at_mode_dkappa(const Dim<T> &dim, int64_t n, const T *kappa, T *out) {
    if (dim.d == T(3))
      return log_prob_at_mode_dkappa_on_sphere(dim, n, kappa, out);
    MeansOfRows a;
    moments_of_rows(make_dim<double>(static_cast<int64_t>(dim.d)), n, kappa, a);
    std::copy(a.one_minus_mean, a.one_minus_mean + n, out);
  }

  static void log_prob_at_mode_over_uniform(const Dim<double> &dim, int64_t n, const double *kappa,
                                            double *out) {
    UniformOfRows a;
    moments_of_rows(dim, n, kappa, a);
    for (int64_t r = 0; r < n; ++r)
      out[r] =
          kappa[r] < 1 ? Family::log_prob_at_mode_over_uniform(kappa[r], dim) : a.over_uniform[r];
  }

  // log p(mu) + log_area - kappa E[1 - t]. The terms are 2 d/kappa times the result at most, of
  // which double has enough digits for kappa >= 1.
  static void kl_uniform_for_float(const Dim<double> &dim, int64_t n, const double *kappa,
                                   double *out) {
    UniformOfRows a;
    moments_of_rows(dim, n, kappa, a);
    for (int64_t r = 0; r < n; ++r)
      out[r] = kappa[r] < 1 ? Family::kl_uniform(kappa[r], dim)
                            : a.over_uniform[r] - kappa[r] * a.one_minus_mean[r];
  }

  // kappa Var[t] = kappa (1 - A^2) - (d - 1) A for the mean A. The terms are 2 max(d, kappa) times
  // the variance at most, of which double has enough digits up to `largest`.
  static void kl_uniform_dkappa_for_float(const Dim<double> &dim, int64_t n, const double *kappa,
                                          double *out) {
    constexpr double largest = 0x1p20;
    MeansOfRows a;
    moments_of_rows(dim, n, kappa, a);
    for (int64_t r = 0; r < n; ++r)
      out[r] = kappa[r] < 1 || kappa[r] > largest
                   ? Family::kl_uniform_dkappa(kappa[r], dim)
                   : kappa[r] * a.one_minus_mean[r] * (1 + a.mean[r]) - 2 * dim.b * a.mean[r];
  }

  template <class T>
  SIMD_CLONES FLATTEN static void sample_at_once(const Dim<T> &dim, int64_t n, const T *kappa,
                                                 const FirstProposals<T> &first,
                                                 SampleCoefficients<T> *out, bool *done) {
    if (dim.d == T(3)) {
      for (int64_t r = 0; r < n; ++r)
        out[r] =
            rescaled(VonMisesFisherSampler::sample_on_sphere(kappa[r], first.s[r]), first.s[r]);
      std::fill_n(done, n, true);
      return;
    }
    T margin[kTile];
    for (int64_t r = 0; r < n; ++r) {
      margin[r] = VonMisesFisherSampler::sample_early(kappa[r], dim, first.p[r], first.s[r],
                                                      first.minus_two_log[r],
                                                      first.minus_two_log2[r], out[r]);
      out[r] = rescaled(out[r], first.s[r]);
    }
    set_done(margin, n, done);
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
    MeansOfRows a;
    moments_of_rows(make_dim<double>(static_cast<int64_t>(dim.d)), n, kappa, a);
    for (int64_t r = 0; r < n; ++r)
      if (!done[r])
        out[r] = quadrature<T>(kappa[r], dim, c[r],
                               {T(0), T(0), T(a.mean[r]), T(a.one_minus_mean[r]), T(0)});
  }

private:
  using Family = VonMisesFisher;

  using V = Vectors<Vector<double>, 2>; // the scalars of some rows

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
    int64_t rows[kTile];
    if (count < n) {
      select_rows(n, [=](int64_t r) __attribute__((always_inline)) { return done[r]; }, rows);
      for (T *values : {r, ratio, u})
        for (int64_t i = 0; i < count; ++i)
          values[i] = values[rows[i]];
    }
    for (T *values : {r, ratio, u})
      fill_vector<Vector<T>>(values, count);
    const T m = dim.b + dim.b; // R >= m
    for (int64_t i = 0; i < count; i += VectorOf<T>::width) {
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
    if (count == n)
      std::copy(value, value + n, out);
    else
      for (int64_t i = 0; i < count; ++i)
        out[rows[i]] = value[i];
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
    float kappas_left[kTile];
    HalfAngle<float> angles_left[kTile];
    int64_t rows[kTile];
    const int64_t count =
        select_rows(n, [=](int64_t r) __attribute__((always_inline)) { return !done[r]; }, rows);
    for (int64_t i = 0; i < count; ++i) {
      kappas_left[i] = kappa[rows[i]];
      angles_left[i] = c[rows[i]];
    }
    for (int64_t r = 0; r < count; ++r) {
      const double x = kappas_left[r], sin2 = angles_left[r].sin2, cos2 = angles_left[r].cos2;
      const double nearer = sin2 < cos2 ? sin2 : cos2; // in double, 1 - nearer has all its digits
      const bool is_small = std::sqrt(m * m + 4 * x * x) < Family::ImplicitGradient<float>::r_min;
      within[r] = is_small ? 1 : 0;
      k[r] = is_small ? x : 0;
      t[r] = sin2 < cos2 ? 1 - 2 * nearer : 2 * nearer - 1;
      both[r] = 4 * nearer * (1 - nearer); // 1 - t^2
      const double radius = std::sqrt(top * top + 4 * k[r] * k[r]);
      const double above_mode = t[r] - 2 * k[r] / (top + radius);
      e[r] = (0.5 * top + std::sqrt(0.25 * (top + 2) * (top + 2) + k[r] * k[r])) / (top + 1);
      q[r] = e[r] / (radius + k[r] * above_mode);
    }
    for (double *values : {k, t, both, e, q})
      fill_vector<V>(values, count);
    static_assert(most <= kTile);
    double inv_m[most], inv_m1[most], inv_m13[most];
    for (int j = 0; j < steps; ++j) {
      const double mj = m + 2 * j;
      inv_m[j] = 1 / mj;
      inv_m1[j] = 1 / (mj + 1);
      inv_m13[j] = 1 / ((mj + 1) * (mj + 3));
    }
    for (int64_t r = 0; r < count; r += kWidth<V>) {
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
    for (int64_t i = 0; i < count; ++i) {
      if (within[i] > 0)
        out[rows[i]] = static_cast<float>(q[i]);
      done[rows[i]] = within[i] > 0;
      all &= within[i] > 0;
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
