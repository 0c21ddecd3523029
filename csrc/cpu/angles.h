// The angles between two rows of vectors, for the rows of a tile: sums over their elements, and the
// gradients that follow from them.
#pragma once
#include "../sphere.h"
#include "sums.h"

namespace spherical {

// The sums of products of R = 2 or 3 float rows x, mu (and G), in double. rows[k] is [n] pointers
// to [d]. Floats have exact products there, so fusing a product and a sum changes no bits.
template <int bytes, bool fused, int R>
HD_INLINE void float_products(const float *const *const *rows, int64_t n, int64_t d,
                              double (*sums)[kTile]) {
  constexpr int N = R == 2 ? kAngleProducts : kSampleProducts;
  constexpr int left[] = {0, 1, 0, 2, 2}, right[] = {0, 1, 1, 0, 1}; // see ProductSum
  using V = Vector<double, bytes>;
  const auto add = [](const V(&in)[R], V(&total)[N]) __attribute__((always_inline)) {
    unrolled<N>([&](auto k) __attribute__((always_inline)) {
      if constexpr (fused)
        add_fused(in[left[k]], in[right[k]], total[k]);
      else
        total[k] += in[left[k]] * in[right[k]];
    });
  };
  for (int64_t r = 0; r < n; ++r) {
    const float *row[R];
    for (int k = 0; k < R; ++k)
      row[k] = rows[k][r];
    double of_row[N];
    vector_sums<V>(row, d, of_row, add);
    for (int k = 0; k < N; ++k)
      sums[k][r] = of_row[k];
  }
}
template <int bytes, bool fused>
HD_INLINE void float_products(const float *const *const *rows, int R, int64_t n, int64_t d,
                              double (*sums)[kTile]) {
  if (R == 2)
    float_products<bytes, fused, 2>(rows, n, d, sums);
  else
    float_products<bytes, fused, 3>(rows, n, d, sums);
}
#ifdef SIMD_VERSIONS
__attribute__((target("default")))
#endif
inline void wide_products(const float *const *const *rows, int R, int64_t n, int64_t d,
                          double (*sums)[kTile]) {
  float_products<32, false>(rows, R, n, d, sums);
}
#ifdef SIMD_VERSIONS
__attribute__((target("arch=x86-64-v3"))) inline void
wide_products(const float *const *const *rows, int R, int64_t n, int64_t d, double (*sums)[kTile]) {
  float_products<32, true>(rows, R, n, d, sums);
}
__attribute__((target("arch=x86-64-v4"))) inline void
wide_products(const float *const *const *rows, int R, int64_t n, int64_t d, double (*sums)[kTile]) {
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

// The sums of chords, in double. From the products of float rows they have an absolute error of at
// most kProductError |x| |mu|; summed as such, those of double rows keep their relative accuracy
// near the poles.
constexpr double kProductError = 16 * std::numeric_limits<double>::epsilon();

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

// The sums of SampleSum, likewise.
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

template <int N> HD_INLINE Chords<double> chords_of_row(const double (&sums)[N][kTile], int64_t r) {
  const double of_row[kChordSums] = {sums[kMinus][r], sums[kPlus][r], sums[kSquares][r]};
  return Chords<double>(of_row);
}

// The sums of products lose too much for a gradient where sin2 or cos2 is below this.
template <class T> constexpr double kNearest = is_float32<T> ? 0x1p-25 : 0;

// The ratio for which the chords of x and ratio mu do not cancel, given those of x and mu.
template <class T> T ratio_for(const Chords<double> &chords, const T *x, const T *mu, int64_t d) {
  if (!chords.cancels())
    return T(1);
  const T *const rows[2] = {x, mu};
  double sums[2];
  row_sums(rows, d, sums, [](const auto &in, auto &out) __attribute__((always_inline)) {
    out[0] = in[0] * in[0];
    out[1] = in[1] * in[1];
  });
  return static_cast<T>(std::sqrt(sums[0]) / std::sqrt(sums[1]));
}

// The chords of x and ratio mu, of one row. Each difference is rounded once: the products of floats
// are exact in double, and those of doubles are fused, or have their rounding error subtracted too.
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
    } else if constexpr (std::is_same_v<S, double>) {
      const auto product = S{ratio} * in[1];
      minus -= product;
      plus += product;
    } else {
      const T factor = static_cast<T>(in[1]), product = ratio * factor;
      const T rest = std::fma(ratio, factor, -product);
      minus = (minus - product) - rest;
      plus = (plus + product) + rest;
    }
    chord_terms(minus, plus, out);
  });
  return Chords<S>(sums);
}

// The angles of the rows of a block: Cosine by columns, and the steps of the gradients.
struct Angles {
  struct Parts {
    double ratio[kTile], rest[kTile];
  };
  double sin2[kTile], cos2[kTile], inverse[kTile], step[kTile];
  Parts x_part, mu_part;
  int64_t exact[kTile]; // whether the parts are small beside the vectors, and computed in double

  template <class T> HD_INLINE HalfAngle<T> half_angle(int64_t r) const {
    return {static_cast<T>(sin2[r]), static_cast<T>(cos2[r])};
  }
  HD_INLINE bool is_within(double limit, int64_t r) const {
    return sin2[r] < limit || cos2[r] < limit;
  }
  HD_INLINE void set(int64_t r, const Cosine<double> &c) {
    sin2[r] = c.half_angle.sin2;
    cos2[r] = c.half_angle.cos2;
    inverse[r] = c.inverse;
    x_part.ratio[r] = c.x_part.ratio;
    x_part.rest[r] = c.x_part.rest;
    mu_part.ratio[r] = c.mu_part.ratio;
    mu_part.rest[r] = c.mu_part.rest;
  }
};

// The rows of the gradients in a of functions of the angle between a and b: `step` times the part
// of b that is orthogonal to a. a, b and out are [n] pointers to [d], and the angles those from row
// `at` on.
template <class T>
SIMD_CLONES void angle_gradients(const Angles &angles, const Angles::Parts &part, const T *const *a,
                                 const T *const *b, int64_t at, int64_t n, int64_t d,
                                 T *const *out) {
  with_width(d, [&](auto width) __attribute__((always_inline)) {
    for (int64_t r = 0; r < n; ++r) {
      const T *ar = a[r], *br = b[r];
      T *to = out[r];
      const Orthogonal<double> exact{part.ratio[at + r], part.rest[at + r]};
      const double step = angles.step[at + r];
      if (angles.exact[at + r]) {
        for (int64_t i = 0; i < width; ++i)
          to[i] = static_cast<T>(step * exact.exact_element(br[i], ar[i]));
        continue;
      }
      const Orthogonal<T> rounded{static_cast<T>(exact.ratio), static_cast<T>(exact.rest)};
      for (int64_t i = 0; i < width; ++i)
        to[i] = static_cast<T>(step) * rounded.element(br[i], ar[i]);
    }
  });
}

} // namespace spherical
