// The moments of the von Mises-Fisher law over the rows of a tile, in double. They are compiled in
// von_mises_fisher_moments.cpp, once for each choice of them.
#pragma once
#include "../../math/von_mises_fisher_moments.h"
#include "../tile.h"

namespace spherical {

// The moments that are wanted of each row, and whether DebyeSums::first is needed for them. copy()
// copies those of row r of another tile to row `to`.
struct AtModeOfRows {
  static constexpr bool needs_first = false;
  double at_mode[kTile];
  HD_INLINE void set(int64_t r, const Moments<double> &a) { at_mode[r] = a.log_prob_at_mode; }
  HD_INLINE void copy(const AtModeOfRows &from, int64_t r, int64_t to) {
    at_mode[to] = from.at_mode[r];
  }
};
struct MeansOfRows {
  static constexpr bool needs_first = true;
  double mean[kTile], one_minus_mean[kTile];
  HD_INLINE void set(int64_t r, const Moments<double> &a) {
    mean[r] = a.mean;
    one_minus_mean[r] = a.one_minus_mean;
  }
  HD_INLINE void copy(const MeansOfRows &from, int64_t r, int64_t to) {
    mean[to] = from.mean[r];
    one_minus_mean[to] = from.one_minus_mean[r];
  }
};
struct UniformOfRows : MeansOfRows {
  double over_uniform[kTile];
  HD_INLINE void set(int64_t r, const Moments<double> &a) {
    MeansOfRows::set(r, a);
    over_uniform[r] = a.log_prob_at_mode_over_uniform;
  }
  HD_INLINE void copy(const UniformOfRows &from, int64_t r, int64_t to) {
    MeansOfRows::copy(from, r, to);
    over_uniform[to] = from.over_uniform[r];
  }
};

// The moments of n rows, in float to a few roundings of float.
template <class Wanted, class T>
void moments_of_rows(const Dim<double> &dim, int64_t n, const T *kappa, Wanted &a);

} // namespace spherical
