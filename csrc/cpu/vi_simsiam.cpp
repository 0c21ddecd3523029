// The VI-SimSiam loss and its gradients: one pass over the rows of a tile for their cosines, then
// one over the same rows, now in the cache, for the gradients.
#include "../vi_simsiam.h"
#include "../registration.h"
#include "family_rows.h"
#include "parallel.h"
#include "sums.h"
#include "tiles.h"

namespace {
using namespace spherical;

constexpr int64_t kRowCost = 300; // see row_grain

// The rows of a tile. Where gradients are written, the tiles of pred, of target and of their
// gradients fill half of the first cache. Else nothing is read twice, and a few rows share the
// calls that a tile needs, which take 7 % of the time of a row of 2048 floats.
inline int64_t loss_tile_rows(int64_t d, bool writes_vectors) {
  return std::clamp<int64_t>(1024 / d, writes_vectors ? 1 : 4, kTile);
}

// Rows are summed in double, as in log_prob, which leaves floats 29 bits to lose. So the dot
// product of float rows serves until the half angle is this near to a pole.
template <class T> constexpr double kDigitsLost = is_float32<T> ? 1e-6 : kNearPole;

// The geometry of a row, and what its gradients need. It is kept together, because between two
// tiles long rows replace everything else in the first cache.
struct LossRow {
  double sums[kCosineSums];
  Cosine<double> cosine;
  double step;    // of the gradients of both vectors
  bool near_pole; // there the gradients cancel, and are computed in double
};

// The scalars of a block of rows, which is divided into tiles. The functions of kappa are evaluated
// for a block at once, and loss and kappa_grad written.
struct LossBlock {
  double kappa[kTile], upstream[kTile], log_prob_at_mode_over_uniform[kTile];
  double log_prob_at_mode_dkappa[kTile], loss[kTile], kappa_grad[kTile];
};

// The sums of each row of a tile. mu and x are [n] pointers to [d].
template <class T>
SIMD_CLONES void cosine_sums(const T *const *mu, const T *const *x, int64_t n, int64_t d,
                             LossRow *rows) {
  if (d < kColumnwiseBelow)
    return with_width(d, [=](auto width) __attribute__((always_inline)) {
      Columns<T> by_mu, by_x;
      by_mu.read(mu, n, width);
      by_x.read(x, n, width);
      double total[kCosineSums][kTile] = {};
      for (int64_t i = 0; i < width; ++i)
        for (int64_t r = 0; r < n; ++r) {
          double terms[kCosineSums];
          cosine_terms<double>(by_mu.at[i][r], by_x.at[i][r], terms);
          for (int k = 0; k < kCosineSums; ++k)
            total[k][r] += terms[k];
        }
      for (int64_t r = 0; r < n; ++r)
        for (int k = 0; k < kCosineSums; ++k)
          rows[r].sums[k] = total[k][r];
    });
  for (int64_t r = 0; r < n; ++r) {
    const T *mur = mu[r], *xr = x[r];
    row_sums<double, kCosineSums>(
        d, rows[r].sums, [=](int64_t i, double (&out)[kCosineSums]) __attribute__((always_inline)) {
          cosine_terms<double>(mur[i], xr[i], out);
        });
  }
}

template <class T>
SIMD_CLONES void pole_sums(const Cosine<double> &cosine, const T *mu, const T *x, int64_t d,
                           double (&sums)[kPoleSums]) {
  row_sums<double, kPoleSums>(
      d, sums, [=](int64_t i, double (&out)[kPoleSums]) __attribute__((always_inline)) {
        cosine.pole_terms(mu[i], x[i], out);
      });
}

// Writes the gradients of a row, [d]: step times the part of x orthogonal to mu, and step times the
// part of mu orthogonal to x. One that is not needed is null. S is the type to compute in; only in
// double is a part that cancels exact.
template <class S, class T>
HD_INLINE void row_gradients(const LossRow &row, const T *mu, const T *x, int64_t d, T *grad_pred,
                             T *grad_target) {
  const Orthogonal<double> x_part = row.cosine.x_part, mu_part = row.cosine.mu_part;
  const S step = static_cast<S>(row.step);
  const auto element = [=](const Orthogonal<double> &part, T a, T b)
                           __attribute__((always_inline)) {
                             if constexpr (std::is_same_v<S, double>)
                               return static_cast<T>(step * part.exact(a, b));
                             else
                               return step * (a - static_cast<S>(part.ratio) * b);
                           };
  if (grad_pred)
    for (int64_t i = 0; i < d; ++i)
      grad_pred[i] = element(x_part, x[i], mu[i]);
  if (grad_target)
    for (int64_t i = 0; i < d; ++i)
      grad_target[i] = element(mu_part, mu[i], x[i]);
}

// The gradients of the rows of a tile. All but `rows` are [n] pointers to [d].
template <class T>
SIMD_CLONES void vector_gradients(const LossRow *rows, const T *const *mu, const T *const *x,
                                  int64_t n, int64_t d, T *const *grad_pred,
                                  T *const *grad_target) {
  for (int64_t r = 0; r < n; ++r) {
    T *pred = grad_pred ? grad_pred[r] : nullptr, *target = grad_target ? grad_target[r] : nullptr;
    if (rows[r].near_pole)
      row_gradients<double>(rows[r], mu[r], x[r], d, pred, target);
    else
      row_gradients<T>(rows[r], mu[r], x[r], d, pred, target);
  }
}

// The scalars of rows first to first + n - 1 of a block, from their geometry.
template <class Family, bool needs_kappa>
void losses(const Dim<double> &dim, double beta, int64_t first, int64_t n, LossRow *rows,
            LossBlock &s) {
  for (int64_t r = 0; r < n; ++r) {
    const int64_t i = first + r;
    const HalfAngle<double> c = rows[r].cosine.half_angle;
    const double kappa = s.kappa[i], upstream = s.upstream[i];
    s.loss[i] = row_loss<Family>(kappa, dim, s.log_prob_at_mode_over_uniform[i], c);
    rows[r].step = upstream * rows[r].cosine.inverse * row_loss_dt<Family>(kappa, dim, beta, c);
    if (needs_kappa)
      s.kappa_grad[i] =
          upstream * row_loss_dkappa<Family>(kappa, dim, s.log_prob_at_mode_dkappa[i], c);
  }
}

// Sets the geometry of the rows of a tile, but for their step; mu and x are [n] pointers to [d].
template <class T>
void measure(const T *const *mu, const T *const *x, int64_t n, int64_t d, LossRow *rows) {
  cosine_sums(mu, x, n, d, rows);
  for (int64_t r = 0; r < n; ++r) {
    LossRow &row = rows[r];
    row.cosine = Cosine<double>(row.sums);
    row.near_pole = row.cosine.within(kNearPole);
    if (row.near_pole && row.cosine.within(kDigitsLost<T>)) {
      double pole[kPoleSums];
      pole_sums(row.cosine, mu[r], x[r], d, pole);
      row.cosine.set_pole_sums(row.sums, pole);
    }
  }
}

template <class Family, class T> void rows(const VISimSiamLoss<T> &args) {
  using Args = VISimSiamLoss<T>;
  const auto &operands = args.operands;
  const bool needs_pred = operands.needs(Args::kGradPred);
  const bool needs_target = operands.needs(Args::kGradTarget);
  const int64_t d = operands.rows.d, most = loss_tile_rows(d, needs_pred || needs_target);
  const auto dim = make_dim<double>(d);
  const bool needs_kappa = operands.needs(Args::kGradKappa);
  parallel_for(operands.rows.n, row_grain(d, 2, kRowCost), [&](int64_t begin, int64_t end) {
    TileRows<T> pred_rows, target_rows, grad_pred, grad_target;
    LossRow tile[kTile];
    LossBlock s;
    for (int64_t block = begin; block < end; block += kTile) {
      const int64_t size = std::min(kTile, end - block);
      read_concentrations<Family>(operands, Args::kKappa, block, size, s.kappa);
      read_scalars(operands, Args::kGrad, block, size, s.upstream);
      OverRows<Family>::log_prob_at_mode_over_uniform(dim, size, s.kappa,
                                                      s.log_prob_at_mode_over_uniform);
      if (needs_kappa)
        OverRows<Family>::log_prob_at_mode_dkappa(dim, size, s.kappa, s.log_prob_at_mode_dkappa);
      for (int64_t r = 0; r < size; r += most) {
        const int64_t n = std::min(most, size - r), first = block + r;
        const T *const *mu = read_rows(operands, Args::kPred, first, n, pred_rows);
        const T *const *x = read_rows(operands, Args::kTarget, first, n, target_rows);
        measure(mu, x, n, d, tile);
        if (needs_kappa)
          losses<Family, true>(dim, static_cast<double>(args.beta), r, n, tile, s);
        else
          losses<Family, false>(dim, static_cast<double>(args.beta), r, n, tile, s);
        if (!needs_pred && !needs_target)
          continue;
        vector_gradients(
            tile, mu, x, n, d,
            needs_pred ? result_rows(operands, Args::kGradPred, first, n, grad_pred) : nullptr,
            needs_target ? result_rows(operands, Args::kGradTarget, first, n, grad_target)
                         : nullptr);
        if (needs_pred)
          finish_rows(operands, Args::kGradPred, first, n, grad_pred);
        if (needs_target)
          finish_rows(operands, Args::kGradTarget, first, n, grad_target);
      }
      write_scalars(operands, Args::kLoss, block, size, s.loss);
      if (needs_kappa)
        write_scalars(operands, Args::kGradKappa, block, size, s.kappa_grad);
    }
  });
}

void vi_simsiam_loss_cpu(StableIValue *stack, uint64_t, uint64_t) {
  unpack_vi_simsiam_loss(stack,
                         [](auto family, const auto &args) { rows<decltype(family)>(args); });
}

const int registered = [] {
  Implementations("CPU").op("vi_simsiam_loss", vi_simsiam_loss_cpu);
  return 0;
}();
} // namespace
