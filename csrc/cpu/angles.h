// The angles between two rows of vectors, for the rows of a tile: sums over their elements, and the
// gradients that follow from them.
#pragma once
#include "../sphere.h"
#include "sums.h"

namespace spherical {

// The sums of products of x and mu, in double. x and mu are [n] pointers to [d]. Floats have exact
// products, so that it makes no difference to a sum whether its products are fused.
template <int bytes, bool fused>
HD_INLINE void float_product_sums(const float *const *x, const float *const *mu, int64_t n,
                                  int64_t d, double (&sums)[kProductSums][kTile]) {
  using V = Vector<double, bytes>;
  const auto add = [](const V(&in)[2], V(&total)[kProductSums]) __attribute__((always_inline)) {
    if constexpr (fused) {
      add_fused(in[0], in[0], total[kXX]);
      add_fused(in[1], in[1], total[kMuMu]);
      add_fused(in[0], in[1], total[kXMu]);
    } else {
      V terms[kProductSums];
      product_terms(in[0], in[1], terms);
      unrolled<kProductSums>([&](int k) __attribute__((always_inline)) { total[k] += terms[k]; });
    }
  };
  for (int64_t r = 0; r < n; ++r) {
    const float *const rows[2] = {x[r], mu[r]};
    double of_row[kProductSums];
    vector_sums<V>(rows, d, of_row, add);
    for (int k = 0; k < kProductSums; ++k)
      sums[k][r] = of_row[k];
  }
}
#ifdef SIMD_VERSIONS
__attribute__((target("default")))
#endif
inline void wide_product_sums(const float *const *x, const float *const *mu, int64_t n, int64_t d,
                              double (&sums)[kProductSums][kTile]) {
  float_product_sums<32, false>(x, mu, n, d, sums);
}
#ifdef SIMD_VERSIONS
__attribute__((target("arch=x86-64-v3"))) inline void
wide_product_sums(const float *const *x, const float *const *mu, int64_t n, int64_t d,
                  double (&sums)[kProductSums][kTile]) {
  float_product_sums<32, true>(x, mu, n, d, sums);
}
__attribute__((target("arch=x86-64-v4"))) inline void
wide_product_sums(const float *const *x, const float *const *mu, int64_t n, int64_t d,
                  double (&sums)[kProductSums][kTile]) {
  float_product_sums<64, true>(x, mu, n, d, sums);
}
#endif

template <class T>
SIMD_CLONES void plain_product_sums(const T *const *x, const T *const *mu, int64_t n, int64_t d,
                                     double (&sums)[kProductSums][kTile]) {
  const T *const *const rows[2] = {x, mu};
  tile_sums(rows, n, d, sums, [](const auto &in, auto &out) __attribute__((always_inline)) {
    product_terms(in[0], in[1], out);
  });
}

template <class T>
void product_sums(const T *const *x, const T *const *mu, int64_t n, int64_t d,
                  double (&sums)[kProductSums][kTile]) {
  if constexpr (is_float32<T>)
    if (d >= kAccumulators)
      return wide_product_sums(x, mu, n, d, sums);
  plain_product_sums(x, mu, n, d, sums);
}

// The sums of chords, in double. From the products of float rows they have an absolute error of at
// most kProductError |x| |mu|; summed as such, those of double rows keep their relative accuracy
// near the poles.
constexpr double kProductError = 16 * std::numeric_limits<double>::epsilon();

template <class T>
SIMD_CLONES void chord_sums(const T *const *x, const T *const *mu, int64_t n, int64_t d,
                            double (&sums)[kChordSums][kTile]) {
  if constexpr (is_float32<T>) {
    product_sums(x, mu, n, d, sums);
    for (int64_t r = 0; r < n; ++r) {
      const double products[kProductSums] = {sums[0][r], sums[1][r], sums[2][r]};
      double chords[kChordSums];
      chords_of_products(products, chords);
      for (int k = 0; k < kChordSums; ++k)
        sums[k][r] = chords[k];
    }
  } else {
    const T *const *const rows[2] = {x, mu};
    tile_sums(rows, n, d, sums, [](const auto &in, auto &out) __attribute__((always_inline)) {
      const auto minus = in[0] - in[1], plus = in[0] + in[1];
      chord_terms(minus, plus, out);
    });
  }
}

// The ratio for which the chords of x and ratio mu do not cancel, given those of x and mu.
template <class T>
T ratio_for(const Chords<double> &chords, const T *x, const T *mu, int64_t d) {
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

// The chords of x and ratio mu, of one row, each difference rounded once. For a ratio of type T the
// product is exact in double if T is float; if T is double, it is fused.
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
      const auto scaled = S{ratio} * in[1];
      minus -= scaled;
      plus += scaled;
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
SIMD_CLONES void angle_gradients(const Angles &angles, const Angles::Parts &part,
                                 const T *const *a, const T *const *b, int64_t at, int64_t n,
                                 int64_t d, T *const *out) {
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
