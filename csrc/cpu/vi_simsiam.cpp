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
// gradients fill half of the first cache. Else nothing is read twice, and a few rows share the
// calls that a tile needs, which take 7 % of the time of a row of 2048 floats.
inline int64_t loss_tile_rows(int64_t d, bool writes_vectors) {
  return std::clamp<int64_t>(1024 / d, writes_vectors ? 1 : 4, kTile);
}

// Rows are summed in double, which leaves floats 29 bits to lose. So the products of float rows
// serve until the half angle is this near to a pole.
template <class T> constexpr double kDigitsLost = is_float32<T> ? 1e-6 : kNearPole;

// The geometry of the rows of a tile.
struct LossRows {
  HalfAngle<double> half_angle[kTile];
  double inverse[kTile]; // see Cosine
  AngleGradient pred[kTile], target[kTile];
};

// The scalars of a block of rows, which is divided into tiles. The functions of kappa are evaluated
// for a block at once, and loss and kappa_grad written.
struct LossBlock {
  double kappa[kTile], upstream[kTile], log_prob_at_mode_over_uniform[kTile];
  double log_prob_at_mode_dkappa[kTile], loss[kTile], kappa_grad[kTile];
};

// The scalars of rows first to first + n - 1 of a block, from their geometry.
template <class Family, bool needs_kappa>
void losses(const Dim<double> &dim, double beta, int64_t first, int64_t n, LossRows &rows,
            LossBlock &s) {
  for (int64_t r = 0; r < n; ++r) {
    const int64_t i = first + r;
    const HalfAngle<double> c = rows.half_angle[r];
    const double kappa = s.kappa[i], upstream = s.upstream[i];
    s.loss[i] = row_loss<Family>(kappa, dim, s.log_prob_at_mode_over_uniform[i], c);
    rows.pred[r].step = rows.target[r].step =
        upstream * rows.inverse[r] * row_loss_dt<Family>(kappa, dim, beta, c);
    if (needs_kappa)
      s.kappa_grad[i] =
          upstream * row_loss_dkappa<Family>(kappa, dim, s.log_prob_at_mode_dkappa[i], c);
  }
}

// Sets the geometry of the rows of a tile, but for the steps of gradients; mu and x are [n]
// pointers to [d].
template <class T>
void measure(const T *const *mu, const T *const *x, int64_t n, int64_t d, LossRows &rows) {
  double sums[kProductSums][kTile];
  product_sums(x, mu, n, d, sums);
  for (int64_t r = 0; r < n; ++r) {
    const double of_row[kProductSums] = {sums[kXX][r], sums[kMuMu][r], sums[kXMu][r]};
    auto cosine = cosine_of_products(of_row);
    const bool near_pole = is_within(cosine.half_angle, kNearPole);
    if (near_pole && is_within(cosine.half_angle, kDigitsLost<T>)) {
      const T ratio = static_cast<T>(length_ratio(of_row));
      cosine = Cosine<double>::from(scaled_chords<double>(ratio, x[r], mu[r], d), ratio);
    }
    rows.half_angle[r] = cosine.half_angle;
    rows.inverse[r] = cosine.inverse;
    rows.pred[r] = {0, cosine.x_part, near_pole};
    rows.target[r] = {0, cosine.mu_part, near_pole};
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
    LossRows tile;
    LossBlock s;
    for (int64_t block = begin; block < end; block += kTile) {
      const int64_t size = std::min(kTile, end - block);
      read_scalars(operands, Args::kKappa, block, size, s.kappa);
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
        const auto gradient = [&](int k, const AngleGradient *g, const T *const *a,
                                  const T *const *b, TileRows<T> &results) {
          if (!operands.needs(k))
            return;
          angle_gradients(g, a, b, n, d, result_rows(operands, k, first, n, results));
          finish_rows(operands, k, first, n, results);
        };
        gradient(Args::kGradPred, tile.pred, mu, x, grad_pred);
        gradient(Args::kGradTarget, tile.target, x, mu, grad_target);
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
