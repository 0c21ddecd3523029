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

// The calls for a tile take about 30 ns, 7 % of a row of 2048 floats: so a tile has a few rows,
// even where these leave the first cache.
constexpr int64_t kLeastRows = 4;

// Rows are summed in double, as in log_prob, which leaves floats 29 bits to lose. So the dot
// product of float rows serves until the half angle is this near to a pole.
template <class T> constexpr double kDigitsLost = is_float32<T> ? 1e-6 : kNearPole;

// The gradient of one vector of a row: scale times the part of that vector's partner that is
// orthogonal to it.
struct PartGradient {
  Orthogonal<double> part;
  double scale;
  bool near_pole; // there the part cancels, and is computed in double
};

// The scalars of the rows of a tile.
struct LossTile {
  double kappa[kTile], upstream[kTile];
  double sums[kTile][kCosineSums];
  Cosine<double> cosine[kTile];
  double log_prob_at_mode_over_uniform[kTile], log_prob_at_mode_dkappa[kTile];
  double loss[kTile], kappa_grad[kTile], step[kTile];
  PartGradient part[kTile];
};

// The sums of each row of a tile. mu and x are [n] pointers to [d].
template <class T>
SIMD_CLONES void cosine_sums(const T *const *mu, const T *const *x, int64_t n, int64_t d,
                             double (*sums)[kCosineSums]) {
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
          sums[r][k] = total[k][r];
    });
  for (int64_t r = 0; r < n; ++r) {
    const T *mur = mu[r], *xr = x[r];
    row_sums<double, kCosineSums>(
        d, sums[r], [=](int64_t i, double (&out)[kCosineSums]) __attribute__((always_inline)) {
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

// out[r] = scale (a[r] - ratio b[r]) for each row; a, b and out are [n] pointers to [d].
template <class T>
SIMD_CLONES void part_gradients(const PartGradient *g, const T *const *a, const T *const *b,
                                int64_t n, int64_t d, T *const *out) {
  for (int64_t r = 0; r < n; ++r) {
    const Orthogonal<double> part = g[r].part;
    const T *ar = a[r], *br = b[r];
    T *to = out[r];
    if (g[r].near_pole) {
      const double scale = g[r].scale;
      for (int64_t i = 0; i < d; ++i)
        to[i] = static_cast<T>(scale * part.exact(ar[i], br[i]));
      continue;
    }
    const T scale = static_cast<T>(g[r].scale), ratio = static_cast<T>(part.ratio);
    for (int64_t i = 0; i < d; ++i)
      to[i] = scale * (ar[i] - ratio * br[i]);
  }
}

template <class Family>
SIMD_CLONES FLATTEN void losses(const Dim<double> &dim, double beta, int64_t n, LossTile &s) {
  for (int64_t r = 0; r < n; ++r) {
    const HalfAngle<double> c = s.cosine[r].half_angle;
    s.loss[r] = row_loss<Family>(s.kappa[r], dim, s.log_prob_at_mode_over_uniform[r], c);
    s.step[r] = s.upstream[r] * s.cosine[r].inverse * row_loss_dt<Family>(s.kappa[r], dim, beta, c);
  }
}
template <class Family>
SIMD_CLONES FLATTEN void kappa_gradients(const Dim<double> &dim, int64_t n, LossTile &s) {
  for (int64_t r = 0; r < n; ++r)
    s.kappa_grad[r] =
        s.upstream[r] * row_loss_dkappa<Family>(s.kappa[r], dim, s.log_prob_at_mode_dkappa[r],
                                                s.cosine[r].half_angle);
}

template <class Family, class T> void rows(const VISimSiamLoss<T> &args) {
  using Args = VISimSiamLoss<T>;
  const auto &operands = args.operands;
  const int64_t d = operands.rows.d, most = std::max(kLeastRows, tile_rows(d));
  const auto dim = make_dim<double>(d);
  parallel_for(operands.rows.n, row_grain(d, 2, kRowCost), [&](int64_t begin, int64_t end) {
    TileRows<T> pred_rows, target_rows, grad_rows;
    LossTile s;
    for (int64_t first = begin; first < end; first += most) {
      const int64_t n = std::min(most, end - first);
      const T *const *mu = read_rows(operands, Args::kPred, first, n, pred_rows);
      const T *const *x = read_rows(operands, Args::kTarget, first, n, target_rows);
      read_scalars(operands, Args::kKappa, first, n, s.kappa);
      read_scalars(operands, Args::kGrad, first, n, s.upstream);
      cosine_sums(mu, x, n, d, s.sums);
      for (int64_t r = 0; r < n; ++r) {
        Cosine<double> &cosine = s.cosine[r] = Cosine<double>(s.sums[r]);
        s.part[r].near_pole = cosine.within(kNearPole);
        if (s.part[r].near_pole && cosine.within(kDigitsLost<T>)) {
          double pole[kPoleSums];
          pole_sums(cosine, mu[r], x[r], d, pole);
          cosine.set_pole_sums(s.sums[r], pole);
        }
      }
      OverRows<Family>::log_prob_at_mode_over_uniform(dim, n, s.kappa,
                                                      s.log_prob_at_mode_over_uniform);
      losses<Family>(dim, static_cast<double>(args.beta), n, s);
      write_scalars(operands, Args::kLoss, first, n, s.loss);
      if (operands.needs(Args::kGradKappa)) {
        OverRows<Family>::log_prob_at_mode_dkappa(dim, n, s.kappa, s.log_prob_at_mode_dkappa);
        kappa_gradients<Family>(dim, n, s);
        write_scalars(operands, Args::kGradKappa, first, n, s.kappa_grad);
      }
      const auto write = [&](int result, auto part, const T *const *a, const T *const *b) {
        if (!operands.needs(result))
          return;
        for (int64_t r = 0; r < n; ++r) {
          s.part[r].part = s.cosine[r].*part;
          s.part[r].scale = s.step[r];
        }
        part_gradients(s.part, a, b, n, d, result_rows(operands, result, first, n, grad_rows));
        finish_rows(operands, result, first, n, grad_rows);
      };
      write(Args::kGradPred, &Cosine<double>::x_part, x, mu);
      write(Args::kGradTarget, &Cosine<double>::mu_part, mu, x);
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
