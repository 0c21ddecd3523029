// log_prob and its gradients: one pass over the rows of a tile, then the scalars of the family.
#include "../log_prob.h"
#include "../registration.h"
#include "angles.h"
#include "family_rows.h"
#include "log_prob_pairs.h"
#include "log_prob_pairs_backward.h"
#include "reduce.h"
#include <atomic>

namespace {
using namespace spherical;

constexpr int64_t kRowCost = 128; // see row_grain

// log p = log p(mu) + log_prob_ratio cancels where p is of size 1, and keeps its last digits only
// if both terms are known better than T. So float rows use double, and a row for which that does
// not suffice is computed again in a longer type. It suffices if the error of log p, in units of
// max(|log p|, 1), is below kAllowed: for float a quarter of what rounding the result adds, for
// double the rounding of terms of up to twice that size.
template <class T> using Longer = std::conditional_t<is_float32<T>, double, long double>;
template <class T> constexpr double kAllowed = is_float32<T> ? 0x1p-27 : 0x1p-51;

constexpr double kRatioError = 1e-11; // relative, of log_prob_ratio_for_float

// The scalars of the rows of a tile. The sums are those of products of float rows, see ProductSum, or
// of chords of double rows, see ChordSum.
template <class T> struct LogDensities {
  T kappa[kTile], log_prob[kTile];
  double sums[kChordSums][kTile], log_prob_at_mode[kTile], log_p[kTile], error[kTile];
  double sin2[kTile]; // of float rows

  // Returns whether the error of log p, in units of max(|log p|, 1), is allowed.
  HD_INLINE bool suffices(int64_t r) const {
    const double size = std::fabs(log_p[r]);
    return error[r] <= kAllowed<T> * (size > 1 ? size : 1.0);
  }
};
static_assert(int{kAngleProducts} == int{kChordSums});
template <class T> struct Gradients : Scratch<T> {
  T kappa[kTile], upstream[kTile], log_prob_at_mode_dkappa[kTile], kappa_grad[kTile];
  Angles angles;
};

// Sets log p and its error, given kappa, log p(mu) and the sums. Returns the number of rows for which
// the error is not allowed.
template <class Family, class T>
SIMD_CLONES FLATTEN int64_t log_densities(const Dim<double> &dim, int64_t n, LogDensities<T> &s) {
  constexpr double unknown = std::numeric_limits<double>::quiet_NaN();
  if constexpr (is_float32<T>) {
    double kappa[kTile];
    std::copy(s.kappa, s.kappa + n, kappa);
    for (int64_t r = 0; r < n; ++r)
      s.sin2[r] = 0.5 - 0.5 * (s.sums[kXMu][r] / std::sqrt(s.sums[kXX][r] * s.sums[kMuMu][r]));
    OverRows<Family>::log_prob_ratio_for_float(dim, n, kappa, s.sin2, s.log_p);
    for (int64_t r = 0; r < n; ++r) {
      const double ratio = s.log_p[r], sin2 = s.sin2[r], cos2 = 1 - sin2;
      const double nearer = sin2 < cos2 ? sin2 : cos2;
      s.error[r] = nearer < 4 * kProductError
                       ? unknown
                       : (kProductError / nearer + kRatioError) * std::fabs(ratio);
      s.log_p[r] = s.log_prob_at_mode[r] + ratio;
    }
  } else {
    for (int64_t r = 0; r < n; ++r) {
      const Chords<double> chords = chords_of_row(s.sums, r);
      constexpr double eps = std::numeric_limits<double>::epsilon();
      s.log_p[r] =
          s.log_prob_at_mode[r] + Family::log_prob_ratio(s.kappa[r], dim, chords.half_angle());
      s.error[r] = chords.cancels() ? unknown : eps * std::fabs(s.log_prob_at_mode[r]);
    }
  }
  int64_t bad = 0;
  for (int64_t r = 0; r < n; ++r) {
    s.log_prob[r] = static_cast<T>(s.log_p[r]);
    bad += s.suffices(r) ? 0 : 1;
  }
  return bad;
}

// log p of one row, with its half angle in the longer type. FLATTEN lets the compiler leave out what a
// family computes beside log p(mu).
template <class Family, class T>
FLATTEN T log_density_again(T kappa, const Dim<Longer<T>> &dim, double log_prob_at_mode,
                            HalfAngle<Longer<T>> c) {
  using S = Longer<T>;
  if constexpr (is_float32<T>)
    return static_cast<T>(log_prob_at_mode + Family::log_prob_ratio(S{kappa}, dim, c));
  else
    return static_cast<T>(log_density<Family, S>(kappa, dim, c));
}

// A family, as log_prob calls it: the loops of its functions over the rows of a tile. What calls
// them is compiled once for all families.
template <class T> struct LogProbFamily : LogProbOfPairsFamily<T> {
  int64_t (*log_densities)(const Dim<double> &, int64_t, LogDensities<T> &);
  T (*again)(T, const Dim<Longer<T>> &, double, HalfAngle<Longer<T>>);
};
template <class Family, class T> const LogProbFamily<T> &functions_of(Family, const LogProb<T> &) {
  static constexpr LogProbFamily<T> functions{
      {kLogProbOfPairs<Family, T>}, log_densities<Family, T>, log_density_again<Family, T>};
  return functions;
}

template <class T> Chords<double> chords_of(const LogDensities<T> &s, int64_t r) {
  if constexpr (!is_float32<T>)
    return chords_of_row(s.sums, r);
  double chords[kChordSums];
  chords_of_products(s.sums[kXX][r], s.sums[kMuMu][r], s.sums[kXMu][r], chords);
  return Chords<double>(chords);
}

// Sets log p of the n rows of a tile, given kappa and log p(mu) in s.
template <class T>
void tile_log_probs(const LogProbFamily<T> &family, const Dim<double> &dim,
                    const Dim<Longer<T>> &longer, const T *const *x, const T *const *mu, int64_t n,
                    int64_t d, LogDensities<T> &s) {
  if constexpr (is_float32<T>) {
    const T *const *const rows[2] = {x, mu};
    product_sums(rows, n, d, s.sums);
  } else {
    chord_sums(x, mu, n, d, s.sums);
  }
  if (family.log_densities(dim, n, s) == 0)
    return;
  for (int64_t r = 0; r < n; ++r)
    if (!s.suffices(r)) {
      const T ratio = ratio_for(chords_of(s, r), x[r], mu[r], d);
      s.log_prob[r] = family.again(s.kappa[r], longer, s.log_prob_at_mode[r],
                                   scaled_chords<Longer<T>>(ratio, x[r], mu[r], d).half_angle());
    }
}

// Sets the angles of the n rows of a tile, which are those from row `at` on of the block.
template <class T>
SIMD_CLONES void set_angles(const double (&sums)[kChordSums][kTile], int64_t at, int64_t n,
                            Angles &angles) {
  for (int64_t r = 0; r < n; ++r) {
    const Chords<double> chords = chords_of_row(sums, r);
    angles.set(at + r, Cosine<double>::from(chords));
    angles.exact[at + r] = chords.cancels() ? 1 : 0;
  }
}

template <class T>
void measure(const T *const *x, const T *const *mu, int64_t at, int64_t n, int64_t d,
             Angles &angles) {
  double sums[kChordSums][kTile];
  chord_sums(x, mu, n, d, sums);
  set_angles<T>(sums, at, n, angles);
  for (int64_t r = 0; r < n; ++r)
    if (angles.exact[at + r] || angles.is_within(kNearest<T>, at + r)) {
      const T ratio = ratio_for(chords_of_row(sums, r), x[r], mu[r], d);
      const Chords<double> chords = scaled_chords<double>(ratio, x[r], mu[r], d);
      angles.set(at + r, Cosine<double>::from(chords, ratio));
    }
}

template <class Family, class T>
SIMD_CLONES FLATTEN void set_steps(const Dim<T> &dim, int64_t at, int64_t n, Gradients<T> &s) {
  for (int64_t r = at; r < at + n; ++r) {
    const T slope = Family::log_prob_ratio_dt(s.kappa[r], dim, s.angles.template half_angle<T>(r));
    s.angles.step[r] = double{s.upstream[r]} * slope * s.angles.inverse[r];
  }
}
template <class Family, class T>
SIMD_CLONES FLATTEN void kappa_gradients(const Dim<T> &dim, int64_t n, Gradients<T> &s) {
  for (int64_t r = 0; r < n; ++r)
    s.kappa_grad[r] =
        density_gradient_kappa<Family>(s.upstream[r], s.kappa[r], dim, s.log_prob_at_mode_dkappa[r],
                                       s.angles.template half_angle<T>(r));
}

// Returns whether |x| is 1 within the tolerance in each of n rows.
template <class T>
SIMD_CLONES bool all_on_sphere(const LogDensities<T> &s, int64_t n, double tolerance) {
  const double shortest = std::max(0.0, 1 - tolerance), longest = 1 + tolerance;
  const double least = shortest * shortest, most = longest * longest;
  int64_t all = 0;
  for (int64_t r = 0; r < n; ++r) {
    const double xx =
        is_float32<T> ? s.sums[kXX][r]
                      : 0.25 * (s.sums[kMinus][r] + s.sums[kPlus][r]) + 0.5 * s.sums[kSquares][r];
    all += xx >= least ? xx <= most ? 1 : 0 : 0;
  }
  return all == n;
}

// Writes log p, and returns whether all values are on the sphere within the tolerance, if it is not 0.
template <class T>
bool forward(const LogProbFamily<T> &family, const LogProb<T> &args, double tolerance) {
  using Args = LogProb<T>;
  const auto &operands = args.operands;
  const int64_t d = operands.rows.d, most = tile_rows(operands, false);
  const auto longer = make_dim<Longer<T>>(d);
  const auto dim = dim_as<double>(longer);
  const auto again = [&](const T *const *x, const T *const *mu, int64_t n, const T *kappa,
                         const double *log_prob_at_mode, T *log_prob) {
    LogDensities<T> s;
    std::copy(kappa, kappa + n, s.kappa);
    std::copy(log_prob_at_mode, log_prob_at_mode + n, s.log_prob_at_mode);
    tile_log_probs(family, dim, longer, x, mu, n, d, s);
    std::copy(s.log_prob, s.log_prob + n, log_prob);
  };
  std::atomic<bool> on_sphere{true};
  const auto check = [&](const double *inverse_lengths, int64_t n) {
    if (tolerance == 0)
      return;
    bool all = true;
    for (int64_t i = 0; i < n; ++i)
      all &= std::fabs(1 / inverse_lengths[i] - 1) <= tolerance;
    if (!all)
      on_sphere.store(false, std::memory_order_relaxed);
  };
  if (log_prob_of_pairs(family, args, again, check))
    return on_sphere;
  const bool one_kappa = operands.rows.is_shared(Args::kKappa) && operands.rows.n > 0;
  double shared_log_prob_at_mode = 0;
  if (one_kappa) {
    T kappa;
    read_concentrations(operands, Args::kKappa, 0, 1, family.upper_bound, &kappa);
    family.log_prob_at_mode(dim, 1, &kappa, &shared_log_prob_at_mode);
  }
  parallel_for(operands.rows.n, row_grain(d, 1, kRowCost), [&](int64_t begin, int64_t end) {
    TileRows<T> value_rows, mu_rows;
    LogDensities<T> s;
    std::fill_n(s.log_prob_at_mode, kTile, shared_log_prob_at_mode);
    for (int64_t first = begin; first < end; first += most) {
      const int64_t n = std::min(most, end - first);
      const T *const *x = read_rows(operands, Args::kValue, first, n, value_rows);
      const T *const *mu = read_rows(operands, Args::kMu, first, n, mu_rows);
      read_concentrations(operands, Args::kKappa, first, n, family.upper_bound, s.kappa);
      if (!one_kappa)
        family.log_prob_at_mode(dim, n, s.kappa, s.log_prob_at_mode);
      tile_log_probs(family, dim, longer, x, mu, n, d, s);
      if (tolerance > 0 && !all_on_sphere(s, n, tolerance))
        on_sphere.store(false, std::memory_order_relaxed);
      write_scalars(operands, Args::kLogProb, first, n, s.log_prob);
    }
  });
  return on_sphere;
}

// A family, as log_prob_backward calls it.
template <class T> struct LogProbBackwardFamily : BackwardOfPairsFamily<T> {
  void (*set_steps)(const Dim<T> &, int64_t, int64_t, Gradients<T> &);
  void (*set_kappa_gradients)(const Dim<T> &, int64_t, Gradients<T> &);
};
template <class Family, class T>
const LogProbBackwardFamily<T> &functions_of(Family, const LogProbBackward<T> &) {
  static constexpr LogProbBackwardFamily<T> functions{
      {kBackwardOfPairs<Family, T>}, set_steps<Family, T>, kappa_gradients<Family, T>};
  return functions;
}

template <class T>
void backward(const LogProbBackwardFamily<T> &family, const LogProbBackward<T> &args) {
  using Args = LogProbBackward<T>;
  const auto &operands = args.operands;
  const int64_t d = operands.rows.d;
  // The gradient of one vector goes where for_each_tile says, which may sum it.
  const bool sums_mu = args.sums.operand == Args::kGradMu;
  const int other = sums_mu ? Args::kGradValue : Args::kGradMu;
  const bool one_kappa = operands.rows.is_shared(Args::kKappa) && operands.rows.n > 0;
  const bool needs_kappa = operands.needs(Args::kGradKappa);
  T shared_dkappa = 0;
  if (one_kappa && needs_kappa) {
    T kappa;
    read_concentrations(operands, Args::kKappa, 0, 1, family.upper_bound, &kappa);
    family.log_prob_at_mode_dkappa(args.dim, 1, &kappa, &shared_dkappa);
  }
  const bool writes_vectors = operands.needs(Args::kGradValue) || operands.needs(Args::kGradMu);
  const auto tile = [&](int64_t first, int64_t n, int64_t at, const Places<T> &out,
                        Gradients<T> &s) {
    const T *const *x = read_rows(operands, Args::kValue, first, n, s.in[0]);
    const T *const *mu = read_rows(operands, Args::kMu, first, n, s.in[1]);
    read_concentrations(operands, Args::kKappa, first, n, family.upper_bound, s.kappa + at);
    read_scalars(operands, Args::kGrad, first, n, s.upstream + at);
    measure(x, mu, at, n, d, s.angles);
    if (!writes_vectors)
      return;
    family.set_steps(args.dim, at, n, s);
    const Places<T> other_out{result_rows(operands, other, first, n, s.out), false};
    angle_gradients(s.angles, x, mu, at, n, d, sums_mu ? other_out : out,
                    sums_mu ? out : other_out);
    finish_rows(operands, other, first, n, s.out);
  };
  const auto scalars = [&](int64_t first, int64_t n, Gradients<T> &s) {
    if (!needs_kappa)
      return;
    if (one_kappa)
      std::fill_n(s.log_prob_at_mode_dkappa, n, shared_dkappa);
    else
      family.log_prob_at_mode_dkappa(args.dim, n, s.kappa, s.log_prob_at_mode_dkappa);
    family.set_kappa_gradients(args.dim, n, s);
    write_scalars(operands, Args::kGradKappa, first, n, s.kappa_grad);
  };
  for_each_tile<Gradients<T>>(operands, args.sums, tile_rows(operands, writes_vectors),
                              row_grain(d, 1, kRowCost), tile, scalars);
}

template <class T>
bool backward_of_pairs(const LogProbBackwardFamily<T> &family, const LogProbBackward<T> &args) {
  const int64_t d = args.operands.rows.d;
  const auto again = [&](const T *const *x, const T *const *mu, const NearPair<T> &pair, bool of_mu,
                         T *out) {
    Gradients<T> s;
    s.kappa[0] = pair.kappa;
    s.upstream[0] = pair.upstream;
    s.log_prob_at_mode_dkappa[0] = pair.at_mode;
    measure(x, mu, 0, 1, d, s.angles);
    family.set_steps(args.dim, 0, 1, s);
    family.set_kappa_gradients(args.dim, 1, s);
    const Places<T> place{&out, false}, nowhere{nullptr, false};
    angle_gradients(s.angles, x, mu, 0, 1, d, of_mu ? nowhere : place, of_mu ? place : nowhere);
    return s.kappa_grad[0];
  };
  return log_prob_backward_of_pairs(family, args, again);
}

void log_prob_cpu(StableIValue *stack, uint64_t, uint64_t) {
  unpack_log_prob(
      stack, [](auto family, const auto &args) { forward(functions_of(family, args), args, 0); });
}

void log_prob_on_sphere_cpu(StableIValue *stack, uint64_t, uint64_t) {
  const double tolerance = unpack_float(stack, 4);
  unpack_log_prob(stack, [=](auto family, const auto &args) {
    Tensor off_sphere =
        Tensor::empty({}, aoti_torch_dtype_bool(), aoti_torch_device_type_cpu(), args.device);
    *off_sphere.out<bool>() = !forward(functions_of(family, args), args, tolerance);
    stack[1] = off_sphere.release();
  });
}

void log_prob_backward_cpu(StableIValue *stack, uint64_t, uint64_t) {
  unpack_log_prob_backward(
      stack, [](auto family, const auto &args) { backward(functions_of(family, args), args); },
      [](auto family, const auto &args) {
        return backward_of_pairs(functions_of(family, args), args);
      });
}

const int registered = [] {
  Implementations("CPU")
      .op("log_prob", log_prob_cpu)
      .op("log_prob_on_sphere", log_prob_on_sphere_cpu)
      .op("log_prob_backward", log_prob_backward_cpu);
  return 0;
}();
} // namespace
