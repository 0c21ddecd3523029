// The VI-SimSiam loss and its gradients: the sums over a row, the scalars of the family, and the
// gradients from the same row, which the cache still holds.
#include "../vi_simsiam.h"
#include "rows.cuh"

namespace {
using namespace spherical;

template <class Family, class T> struct Loss {
  using S = Accumulator<T>;
  static constexpr bool wants_shared_row = false;
  static constexpr int blocks = 2; // to a multiprocessor, at least
  VISimSiamLoss<T> args;

  template <int V, int N, class Term>
  __device__ __forceinline__ static void sums_of(const Team &team, const T *mu, const T *x,
                                                 int64_t d, S (&sums)[N], const Term &term) {
    row_sums<V>(team, d, sums, [=](int64_t j, S(&out)[V][N]) {
      const auto mus = load<V>(mu + j), xs = load<V>(x + j);
      for (int v = 0; v < V; ++v)
        term(S(mus.element[v]), S(xs.element[v]), out[v]);
    });
  }

  template <int V> __device__ void row(const Team &team, int64_t i) const {
    const int64_t d = args.in.rows.d;
    const T *mu = args.pred(i), *x = args.target(i);
    S sums[kCosineSums];
    sums_of<V>(team, mu, x, d, sums,
               [](S m, S v, S(&out)[kCosineSums]) { cosine_terms(m, v, out); });
    Cosine<S> cosine(sums);
    if (cosine.within(S(kNearPole))) { // all of the team, or none
      S pole[kPoleSums];
      sums_of<V>(team, mu, x, d, pole,
                 [=](S m, S v, S(&out)[kPoleSums]) { cosine.pole_terms(m, v, out); });
      cosine.set_pole_sums(sums, pole);
    }
    const S kappa = args.kappa(i);
    if (args.grad_target || args.grad_pred) {
      const S step =
          args.grad(i) * cosine.inverse * row_loss_dt<Family>(kappa, args.beta, cosine.chords);
      for_each_pack<V>(team, 0, d, [=](int64_t j) {
        const auto mus = load<V>(mu + j), xs = load<V>(x + j);
        Pack<T, V> out;
        if (args.grad_pred) {
          for (int v = 0; v < V; ++v)
            out.element[v] = T(step * cosine.of_x.exact(S(xs.element[v]), S(mus.element[v])));
          store<V>(args.grad_pred + i * d + j, out);
        }
        if (args.grad_target) {
          for (int v = 0; v < V; ++v)
            out.element[v] = T(step * cosine.of_mu.exact(S(mus.element[v]), S(xs.element[v])));
          store<V>(args.grad_target + i * d + j, out);
        }
      });
    }
    if (team.rank == 0) {
      const auto loss =
          row_loss<Family>(kappa, args.dim, cosine.chords, args.grad_kappa != nullptr);
      args.out[i] = loss.value;
      if (args.grad_kappa)
        args.grad_kappa[i] = args.grad(i) * loss.dkappa;
    }
  }
};

const int registered = [] {
  Implementations("CUDA").op("vi_simsiam_loss", [](StableIValue *stack, uint64_t, uint64_t) {
    vi_simsiam_loss(stack, [](auto family, const auto &args) {
      using T = std::remove_pointer_t<decltype(args.grad_pred)>;
      launch_rows<T>(Loss<decltype(family), T>{args});
    });
  });
  return 0;
}();
} // namespace
