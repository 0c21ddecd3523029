// The VI-SimSiam loss and its gradients: one pass over the rows of a tile for their cosines, then
// one over the same rows, now in the cache, for the gradients.
#include "../vi_simsiam.h"
#include "../registration.h"
#include "angles.h"
#include "family_rows.h"
#include "parallel.h"
#include "tiles.h"

namespace {
using namespace spherical;

constexpr int64_t kRowCost = 300; // see row_grain

// The rows of a tile. Where gradients are written, the tiles of pred, of target and of their
// gradients fill half of the first cache.
template <class T> int64_t loss_tile_rows(const VISimSiamLoss<T> &args, bool writes_vectors) {
  const int64_t most = tile_rows(args.operands, writes_vectors);
  return writes_vectors ? std::max<int64_t>(1, most / 2) : most;
}

// Rows are summed in double, which leaves floats 29 bits to lose. So the products of float rows
// serve until the half angle is this near to a pole.
template <class T> constexpr double kDigitsLost = is_float32<T> ? 1e-6 : kNearPole;

// The scalars of a block of rows, which is divided into tiles.
struct LossBlock {
  double kappa[kTile], upstream[kTile], log_prob_at_mode_over_uniform[kTile];
  double log_prob_at_mode_dkappa[kTile], loss[kTile], kappa_grad[kTile];
  Angles angles;
};

// Sets the angles of the n rows of a tile, which are those from row `at` on of the block.
template <class T>
SIMD_CLONES void set_angles(const double (&sums)[kAngleProducts][kTile], int64_t at, int64_t n,
                            Angles &angles) {
  for (int64_t r = 0; r < n; ++r) {
    const double of_row[kAngleProducts] = {sums[kXX][r], sums[kMuMu][r], sums[kXMu][r]};
    angles.set(at + r, cosine_of_products(of_row));
    angles.exact[at + r] = angles.is_within(kNearPole, at + r) ? 1 : 0;
  }
}

template <class T>
void measure(const T *const *mu, const T *const *x, int64_t at, int64_t n, int64_t d,
             Angles &angles) {
  double sums[kAngleProducts][kTile];
  const T *const *const pairs[2] = {x, mu};
  product_sums(pairs, n, d, sums);
  set_angles<T>(sums, at, n, angles);
  for (int64_t r = 0; r < n; ++r)
    if (angles.exact[at + r] && angles.is_within(kDigitsLost<T>, at + r)) {
      const T ratio = static_cast<T>(std::sqrt(sums[kXX][r]) / std::sqrt(sums[kMuMu][r]));
      const Chords<double> chords = scaled_chords<double>(ratio, x[r], mu[r], d);
      angles.set(at + r, Cosine<double>::from(chords, ratio));
    }
}

template <class Family>
SIMD_CLONES FLATTEN void set_steps(const Dim<double> &dim, double beta, int64_t at, int64_t n,
                                   LossBlock &s) {
  const auto run = [&](double beta) __attribute__((always_inline)) {
    for (int64_t r = at; r < at + n; ++r)
      s.angles.step[r] = s.upstream[r] * s.angles.inverse[r] *
                         row_loss_dt<Family>(s.kappa[r], dim, beta, s.angles.half_angle<double>(r));
  };
  if (beta == 0) // beta is known in this loop, which vectorises, and in the next one
    run(0);
  else if (beta == 1)
    run(1);
  else
    run(beta);
}
template <class Family>
SIMD_CLONES FLATTEN void losses(const Dim<double> &dim, int64_t n, LossBlock &s) {
  for (int64_t r = 0; r < n; ++r)
    s.loss[r] = row_loss<Family>(s.kappa[r], dim, s.log_prob_at_mode_over_uniform[r],
                                 s.angles.half_angle<double>(r));
}
template <class Family>
SIMD_CLONES FLATTEN void kappa_gradients(const Dim<double> &dim, int64_t n, LossBlock &s) {
  for (int64_t r = 0; r < n; ++r)
    s.kappa_grad[r] =
        s.upstream[r] * row_loss_dkappa<Family>(s.kappa[r], dim, s.log_prob_at_mode_dkappa[r],
                                                s.angles.half_angle<double>(r));
}

// In an order that depends on n alone.
template <class T> SIMD_CLONES double sum_of(const T *x, int64_t n) {
  constexpr int64_t width = 16;
  double partial[width] = {}, sum = 0;
  int64_t i = 0;
  for (; i + width <= n; i += width) {
    UNROLL
    for (int64_t j = 0; j < width; ++j)
      partial[j] += double{x[i + j]};
  }
  for (; i < n; ++i)
    sum += double{x[i]};
  for (int64_t j = 0; j < width; ++j)
    sum += partial[j];
  return sum;
}

// A family, as the loss calls it: the loops of its functions over the rows of a tile. What calls
// them is compiled once for all families.
template <class T> struct LossFamily {
  T upper_bound;
  void (*log_prob_at_mode_over_uniform)(const Dim<double> &, int64_t, const double *, double *);
  void (*log_prob_at_mode_dkappa)(const Dim<double> &, int64_t, const double *, double *);
  void (*set_steps)(const Dim<double> &, double, int64_t, int64_t, LossBlock &);
  void (*set_losses)(const Dim<double> &, int64_t, LossBlock &);
  void (*set_kappa_gradients)(const Dim<double> &, int64_t, LossBlock &);
};
template <class Family, class T>
const LossFamily<T> &functions_of(Family, const VISimSiamLoss<T> &) {
  static constexpr LossFamily<T> functions{T(Family::upper_bound),
                                           OverRows<Family>::log_prob_at_mode_over_uniform,
                                           OverRows<Family>::log_prob_at_mode_dkappa,
                                           set_steps<Family>,
                                           losses<Family>,
                                           kappa_gradients<Family>};
  return functions;
}

template <class T> void rows(const LossFamily<T> &family, const VISimSiamLoss<T> &args) {
  using Args = VISimSiamLoss<T>;
  const auto &operands = args.operands;
  const bool writes_vectors = operands.needs(Args::kGradPred) || operands.needs(Args::kGradTarget);
  const int64_t d = operands.rows.d, most = loss_tile_rows(args, writes_vectors);
  const auto dim = make_dim<double>(d);
  const bool needs_kappa = operands.needs(Args::kGradKappa);
  parallel_for(operands.rows.n, row_grain(d, 2, kRowCost), [&](int64_t begin, int64_t end) {
    TileRows<T> pred_rows, target_rows, grad_pred, grad_target;
    LossBlock s;
    for (int64_t block = begin; block < end; block += kTile) {
      const int64_t size = std::min(kTile, end - block);
      read_concentrations(operands, Args::kKappa, block, size, family.upper_bound, s.kappa);
      std::fill_n(s.upstream, size, 1.0);
      if (args.has_grad)
        read_scalars(operands, Args::kGrad, block, size, s.upstream);
      for (int64_t r = 0; r < size; ++r)
        s.upstream[r] *= double{args.scale};
      for (int64_t at = 0; at < size; at += most) {
        const int64_t n = std::min(most, size - at), first = block + at;
        const T *const *mu = read_rows(operands, Args::kPred, first, n, pred_rows);
        const T *const *x = read_rows(operands, Args::kTarget, first, n, target_rows);
        measure(mu, x, at, n, d, s.angles);
        if (!writes_vectors)
          continue;
        family.set_steps(dim, static_cast<double>(args.beta), at, n, s);
        const auto places = [&](int k, TileRows<T> &results) {
          return Places<T>{result_rows(operands, k, first, n, results), false};
        };
        angle_gradients(s.angles, x, mu, at, n, d, places(Args::kGradTarget, grad_target),
                        places(Args::kGradPred, grad_pred));
        finish_rows(operands, Args::kGradPred, first, n, grad_pred);
        finish_rows(operands, Args::kGradTarget, first, n, grad_target);
      }
      family.log_prob_at_mode_over_uniform(dim, size, s.kappa, s.log_prob_at_mode_over_uniform);
      family.set_losses(dim, size, s);
      if (args.sum)
        for (int64_t r = 0; r < size; ++r)
          s.loss[r] *= s.upstream[r];
      write_scalars(operands, Args::kLoss, block, size, s.loss);
      if (!needs_kappa)
        continue;
      family.log_prob_at_mode_dkappa(dim, size, s.kappa, s.log_prob_at_mode_dkappa);
      family.set_kappa_gradients(dim, size, s);
      write_scalars(operands, Args::kGradKappa, block, size, s.kappa_grad);
    }
  });
  if (args.sum)
    *args.sum = static_cast<T>((args.start ? double{*args.start} : 0.0) +
                               sum_of(operands.array(Args::kLoss), operands.rows.n));
}

void vi_simsiam_loss_cpu(StableIValue *stack, uint64_t, uint64_t) {
  unpack_vi_simsiam_loss(
      stack, [](auto family, const auto &args) { rows(functions_of(family, args), args); });
}

const int registered = [] {
  Implementations("CPU").op("vi_simsiam_loss", vi_simsiam_loss_cpu);
  return 0;
}();
} // namespace
