// The moments of the von Mises-Fisher law over the rows of a tile, in double. They are compiled in
// von_mises_fisher_moments.cpp, once for each choice of them.
#pragma once
#include "../../math/von_mises_fisher_moments.h"
#include "../tile.h"

namespace spherical {

// The moments that are wanted of each row; set() keeps what row r had unless `keep`.
struct AtModeOfRows {
  double at_mode[kTile];
  HD_INLINE void set(int64_t r, bool keep, const Moments<double> &a) {
    at_mode[r] = keep ? a.log_prob_at_mode : at_mode[r];
  }
};
struct MeansOfRows {
  double mean[kTile], one_minus_mean[kTile];
  HD_INLINE void set(int64_t r, bool keep, const Moments<double> &a) {
    mean[r] = keep ? a.mean : mean[r];
    one_minus_mean[r] = keep ? a.one_minus_mean : one_minus_mean[r];
  }
};
struct UniformOfRows {
  double over_uniform[kTile], one_minus_mean[kTile];
  HD_INLINE void set(int64_t r, bool keep, const Moments<double> &a) {
    over_uniform[r] = keep ? a.log_prob_at_mode_over_uniform : over_uniform[r];
    one_minus_mean[r] = keep ? a.one_minus_mean : one_minus_mean[r];
  }
};

// The moments of n rows, in float to a few roundings of float.
template <class Wanted, class T>
void moments_of_rows(const Dim<double> &dim, int64_t n, const T *kappa, Wanted &a);

} // namespace spherical
