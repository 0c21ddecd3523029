// The angles between two rows of vectors, for the rows of a tile: sums over their elements, and the
// gradients that follow from them.
#pragma once
#include "../sphere.h"
#include "sums.h"
#include "tile.h"

namespace spherical {

// The sums of products of R = 2 or 3 rows x, mu (and G), in double, see ProductSum. rows[k] is [n]
// pointers to [d]. This and the other loops over elements are compiled in angles.cpp, for float and
// double.
template <class T, int R, int N>
void product_sums(const T *const *const (&rows)[R], int64_t n, int64_t d, double (&sums)[N][kTile]);

// The sums of chords, in double. From the products of float rows they have an absolute error of at
// most kProductError |x| |mu|; summed as such, those of double rows keep their relative accuracy
// near the poles.
constexpr double kProductError = 16 * std::numeric_limits<double>::epsilon();

template <class T>
void chord_sums(const T *const *x, const T *const *mu, int64_t n, int64_t d,
                double (&sums)[kChordSums][kTile]);

// The sums of SampleSum, likewise.
template <class T>
void sample_sums(const T *const *grad, const T *const *x, const T *const *mu, int64_t n, int64_t d,
                 double (&sums)[kSampleSums][kTile]);

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
// are exact in double, and those of doubles are fused. The long double ones of doubles are summed in
// twice the digits of double, and rounded at the end.
template <class S, class T> Chords<S> scaled_chords(T ratio, const T *x, const T *mu, int64_t d);
template <>
Chords<long double> scaled_chords(double ratio, const double *x, const double *mu, int64_t d);

// The angles of the rows of a block: Cosine by columns, and the steps of the gradients.
struct Angles {
  struct Parts {
    double ratio[kTile], rest[kTile];

    HD_INLINE Orthogonal<double> row(int64_t r) const { return {ratio[r], rest[r]}; }
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

// The rows of the gradients in x and in mu of functions of the angle between them: `step` times the
// part of the other vector that is orthogonal to it. x and mu are [n] pointers to [d], and the angles
// those from row `at` on. A result without rows is left out.
template <class T>
void angle_gradients(const Angles &angles, const T *const *x, const T *const *mu, int64_t at,
                     int64_t n, int64_t d, const Places<T> &of_x, const Places<T> &of_mu);

} // namespace spherical
