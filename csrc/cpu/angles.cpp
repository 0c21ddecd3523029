// The loops over the elements of two rows of vectors.
#include "angles.h"
#include <vector>

namespace spherical {

// The sums of products of row r of a tile: x, mu (and G) [d], whose numbers are floats. Floats have
// exact products in double, so fusing a product and a sum changes no bits. sums[kMuMu][r] is left
// out unless `with_mu_mu`.
template <int bytes, bool fused, bool with_mu_mu, class... T>
HD_INLINE void row_products(const std::tuple<const T *...> &rows, int64_t r, int64_t d,
                            double (*sums)[kTile]) {
  constexpr int R = sizeof...(T), N = R == 2 ? kAngleProducts : kSampleProducts;
  constexpr int left[] = {0, 1, 0, 2, 2}, right[] = {0, 1, 1, 0, 1}; // see ProductSum
  using V = Vector<double, bytes>;
  double of_row[N];
  vector_sums<V>(rows, d, of_row, [](const V(&in)[R], V(&total)[N]) __attribute__((always_inline)) {
    unrolled<N>([&](auto k) __attribute__((always_inline)) {
      if constexpr (k == kMuMu && !with_mu_mu)
        return;
      else if constexpr (fused)
        add_fused(in[left[k]], in[right[k]], total[k]);
      else
        total[k] += in[left[k]] * in[right[k]];
    });
  });
  for (int k = 0; k < N; ++k)
    if (k != kMuMu || with_mu_mu)
      sums[k][r] = of_row[k];
}

// The same for each row. rows[k] is [n] pointers to [d]. A mu that all rows share is converted and
// squared once; for fewer than four rows that is not worth while.
template <int bytes, bool fused, int R>
HD_INLINE void float_products(const float *const *const *rows, int64_t n, int64_t d,
                              double (*sums)[kTile]) {
  const float *const *x = rows[0], *const *mu = rows[1], *const *grad = rows[R - 1];
  const auto products = [&](int64_t r, const auto *mu_r,
                            auto with_mu_mu) __attribute__((always_inline)) {
    if constexpr (R == 2)
      row_products<bytes, fused, with_mu_mu>(std::tuple(x[r], mu_r), r, d, sums);
    else
      row_products<bytes, fused, with_mu_mu>(std::tuple(x[r], mu_r, grad[r]), r, d, sums);
  };
  if (n < 4 || !is_one_row(mu, n)) {
    for (int64_t r = 0; r < n; ++r)
      products(r, mu[r], std::true_type());
    return;
  }
  const std::vector<double> shared(mu[0], mu[0] + d);
  products(0, mu[0], std::true_type());
  std::fill_n(sums[kMuMu], n, sums[kMuMu][0]);
  for (int64_t r = 1; r < n; ++r)
    products(r, shared.data(), std::false_type());
}
template <int bytes, bool fused>
HD_INLINE void float_products(const float *const *const *rows, int R, int64_t n, int64_t d,
                              double (*sums)[kTile]) {
  if (R == 2)
    float_products<bytes, fused, 2>(rows, n, d, sums);
  else
    float_products<bytes, fused, 3>(rows, n, d, sums);
}
SIMD_LEAST inline void wide_products(const float *const *const *rows, int R, int64_t n, int64_t d,
                                     double (*sums)[kTile]) {
  float_products<std::max(kVectorBytes, 32), kFused>(rows, R, n, d, sums);
}
#ifdef SIMD_VERSIONS
SIMD_AVX512 inline void wide_products(const float *const *const *rows, int R, int64_t n, int64_t d,
                                      double (*sums)[kTile]) {
  float_products<64, true>(rows, R, n, d, sums);
}
#endif

// The same for rows of any type, see ProductSum.
template <class T, int R, int N>
SIMD_CLONES void product_sums(const T *const *const (&rows)[R], int64_t n, int64_t d,
                              double (&sums)[N][kTile]) {
  static_assert(N == (R == 2 ? kAngleProducts : kSampleProducts));
  if constexpr (is_float32<T>)
    if (d >= kWide)
      return wide_products(rows, R, n, d, sums);
  tile_sums(rows, n, d, sums, [](const auto &in, auto &out) __attribute__((always_inline)) {
    product_terms(in[0], in[1], out);
    if constexpr (R == 3) {
      out[kGX] = in[2] * in[0];
      out[kGMu] = in[2] * in[1];
    }
  });
}

template <class T>
SIMD_CLONES void chord_sums(const T *const *x, const T *const *mu, int64_t n, int64_t d,
                            double (&sums)[kChordSums][kTile]) {
  const T *const *const rows[2] = {x, mu};
  if constexpr (is_float32<T>) {
    product_sums(rows, n, d, sums);
    for (int64_t r = 0; r < n; ++r) {
      double chords[kChordSums];
      chords_of_products(sums[kXX][r], sums[kMuMu][r], sums[kXMu][r], chords);
      for (int k = 0; k < kChordSums; ++k)
        sums[k][r] = chords[k];
    }
  } else {
    tile_sums(rows, n, d, sums, [](const auto &in, auto &out) __attribute__((always_inline)) {
      const auto minus = in[0] - in[1], plus = in[0] + in[1];
      chord_terms(minus, plus, out);
    });
  }
}

template <class T>
SIMD_CLONES void sample_sums(const T *const *grad, const T *const *x, const T *const *mu, int64_t n,
                             int64_t d, double (&sums)[kSampleSums][kTile]) {
  if constexpr (is_float32<T>) {
    const T *const *const rows[3] = {x, mu, grad};
    double products[kSampleProducts][kTile];
    product_sums(rows, n, d, products);
    for (int64_t r = 0; r < n; ++r) {
      double chords[kChordSums];
      chords_of_products(products[kXX][r], products[kMuMu][r], products[kXMu][r], chords);
      for (int k = 0; k < kChordSums; ++k)
        sums[k][r] = chords[k];
      sums[kGradMu][r] = products[kGMu][r];
      sums[kGradMinus][r] = products[kGX][r] - products[kGMu][r];
      sums[kGradX][r] = products[kGX][r];
    }
  } else {
    const T *const *const rows[3] = {grad, x, mu};
    tile_sums(rows, n, d, sums, [](const auto &in, auto &out) __attribute__((always_inline)) {
      sample_terms(in[0], in[1], in[2], out);
    });
  }
}

// The sums of chords of x and ratio mu, of one row, in twice the digits of double.
template <int bytes>
HD_INLINE void chords_in_pairs(double ratio, const double *x, const double *mu, int64_t d,
                               Pair<double> (&sums)[kChordSums]) {
  const double *const rows[2] = {x, mu};
  row_sums_in_pairs<bytes>(rows, d, sums,
                           [=](const auto &in, auto &out) __attribute__((always_inline)) {
                             using V = std::decay_t<decltype(in[0])>;
                             const Pair<V> scaled = exact_product(V{} + ratio, in[1]);
                             const Pair<V> minus = in[0] + -scaled, plus = in[0] + scaled;
                             out[kMinus] += minus * minus;
                             out[kPlus] += plus * plus;
                             out[kSquares] += minus * plus;
                           });
}
SIMD_LEAST inline void chord_pairs(double ratio, const double *x, const double *mu, int64_t d,
                                   Pair<double> (&sums)[kChordSums]) {
  chords_in_pairs<std::max(kVectorBytes, 32)>(ratio, x, mu, d, sums);
}
#ifdef SIMD_VERSIONS
SIMD_AVX512 inline void chord_pairs(double ratio, const double *x, const double *mu, int64_t d,
                                    Pair<double> (&sums)[kChordSums]) {
  chords_in_pairs<64>(ratio, x, mu, d, sums);
}
#endif

template <>
Chords<long double> scaled_chords(double ratio, const double *x, const double *mu, int64_t d) {
  Pair<double> pairs[kChordSums];
  long double sums[kChordSums];
  chord_pairs(ratio, x, mu, d, pairs);
  for (int k = 0; k < kChordSums; ++k)
    sums[k] = static_cast<long double>(pairs[k].high) + pairs[k].low;
  return Chords<long double>(sums);
}

template <class S, class T>
SIMD_CLONES Chords<S> scaled_chords(T ratio, const T *x, const T *mu, int64_t d) {
  const T *const rows[2] = {x, mu};
  S sums[kChordSums];
  row_sums(rows, d, sums, [=](const auto &in, auto &out) __attribute__((always_inline)) {
    auto minus = in[0], plus = in[0];
    if constexpr (std::is_same_v<S, T>) {
      const auto factor = std::decay_t<decltype(minus)>{} + ratio, opposite = -factor;
      add_fused(factor, in[1], plus);
      add_fused(opposite, in[1], minus);
    } else {
      const auto product = S{ratio} * in[1];
      minus -= product;
      plus += product;
    }
    chord_terms(minus, plus, out);
  });
  return Chords<S>(sums);
}

template <class T> HD_INLINE Orthogonal<T> rounded(const Orthogonal<double> &part) {
  return {static_cast<T>(part.ratio), static_cast<T>(part.rest)};
}

// Puts row r of the gradient in b: `step` times the part of a that is orthogonal to b.
template <class T, class Width>
HD_INLINE void put_gradient(const Places<T> &out, int64_t r, Width d, bool exact, double step,
                            const Orthogonal<double> &part, const T *a, const T *b) {
  if (!out.row)
    return;
  if (exact) {
    out.put(r, d, [=](int64_t i) __attribute__((always_inline)) {
      return static_cast<T>(step * part.exact_element(a[i], b[i]));
    });
    return;
  }
  const Orthogonal<T> of_a = rounded<T>(part);
  out.put(r, d, [=](int64_t i) __attribute__((always_inline)) {
    return static_cast<T>(step) * of_a.element(a[i], b[i]);
  });
}

template <class T>
SIMD_CLONES void angle_gradients(const Angles &angles, const T *const *x, const T *const *mu,
                                 int64_t at, int64_t n, int64_t d, const Places<T> &of_x,
                                 const Places<T> &of_mu) {
  const bool both = of_x.row && of_mu.row && !of_x.adds && !of_mu.adds;
  with_width(d, [&](auto width) __attribute__((always_inline)) {
    for (int64_t r = 0; r < n; ++r) {
      const Orthogonal<double> x_part = angles.x_part.row(at + r);
      const Orthogonal<double> mu_part = angles.mu_part.row(at + r);
      const double step = angles.step[at + r];
      const bool exact = angles.exact[at + r];
      const T *xr = x[r], *mur = mu[r];
      if (!both || exact) {
        put_gradient(of_mu, r, width, exact, step, x_part, xr, mur);
        put_gradient(of_x, r, width, exact, step, mu_part, mur, xr);
        continue;
      }
      const Orthogonal<T> of_xr = rounded<T>(x_part), of_mur = rounded<T>(mu_part);
      T *to_mu = of_mu.row[r], *to_x = of_x.row[r];
      for (int64_t i = 0; i < width; ++i) { // both in one pass, which reads each element once
        const T xi = xr[i], mui = mur[i];
        to_mu[i] = static_cast<T>(step) * of_xr.element(xi, mui);
        to_x[i] = static_cast<T>(step) * of_mur.element(mui, xi);
      }
    }
  });
}

template void product_sums(const double *const *const (&)[2], int64_t, int64_t,
                           double (&)[kAngleProducts][kTile]);
template void product_sums(const float *const *const (&)[2], int64_t, int64_t,
                           double (&)[kAngleProducts][kTile]);
template Chords<double> scaled_chords(float, const float *, const float *, int64_t);
template Chords<double> scaled_chords(double, const double *, const double *, int64_t);
template void chord_sums(const float *const *, const float *const *, int64_t, int64_t,
                         double (&)[kChordSums][kTile]);
template void sample_sums(const float *const *, const float *const *, const float *const *, int64_t,
                          int64_t, double (&)[kSampleSums][kTile]);
template void angle_gradients(const Angles &, const float *const *, const float *const *, int64_t,
                              int64_t, int64_t, const Places<float> &, const Places<float> &);
template void chord_sums(const double *const *, const double *const *, int64_t, int64_t,
                         double (&)[kChordSums][kTile]);
template void sample_sums(const double *const *, const double *const *, const double *const *,
                          int64_t, int64_t, double (&)[kSampleSums][kTile]);
template void angle_gradients(const Angles &, const double *const *, const double *const *, int64_t,
                              int64_t, int64_t, const Places<double> &, const Places<double> &);

} // namespace spherical
