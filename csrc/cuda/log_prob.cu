// log_prob and its gradients: the sums over a row, then the scalars of the family.
#include "../log_prob.h"
#include "rows.cuh"

namespace {
using namespace spherical;

// |x - mu|^2 and |x + mu|^2
template <int V, class T>
__device__ __forceinline__ void chord_sums(const Team &team, const T *x, const T *mu, int64_t d,
                                           T (&sums)[2]) {
  row_sums<V>(team, d, sums, [=](int64_t j, T(&out)[V][2]) {
    const auto xs = load<V>(x + j), mus = load<V>(mu + j);
    for (int v = 0; v < V; ++v)
      chord_terms(xs.element[v], mus.element[v], out[v]);
  });
}

template <class Family, class T> struct Forward {
  static constexpr bool wants_shared_row = false;
  static constexpr int blocks = 2; // to a multiprocessor, at least
  LogProb<T> args;

  template <int V> __device__ void row(const Team &team, int64_t i) const {
    T sums[2];
    chord_sums<V>(team, args.value(i), args.mu(i), args.in.rows.d, sums);
    if (team.rank == 0)
      args.out[i] = log_density<Family>(args.kappa(i), args.dim, sums[0], sums[1]);
  }
};

template <class Family, class T> struct Backward {
  static constexpr bool wants_shared_row = false;
  static constexpr int blocks = 2; // to a multiprocessor, at least
  LogProbBackward<T> args;

  template <int V> __device__ void row(const Team &team, int64_t i) const {
    const int64_t d = args.in.rows.d;
    const T *x = args.value(i), *mu = args.mu(i);
    T sums[2];
    chord_sums<V>(team, x, mu, d, sums);
    const bool writes_kappa = args.wants(args.kGradKappa) && team.rank == 0;
    const auto g = density_gradient<Family>(args.grad(i), args.kappa(i), args.dim, sums[0], sums[1],
                                            writes_kappa);
    if (writes_kappa)
      *args.in.result(args.kGradKappa, i) = g.kappa;
    const bool wants_value = args.wants(args.kGradValue), wants_mu = args.wants(args.kGradMu);
    if (!wants_value && !wants_mu)
      return;
    T *grad_value = args.in.result(args.kGradValue, i), *grad_mu = args.in.result(args.kGradMu, i);
    for_each_pack<V>(team, 0, d, [=](int64_t j) {
      const auto xs = load<V>(x + j), mus = load<V>(mu + j);
      Pack<T, V> out;
      if (wants_value) {
        for (int v = 0; v < V; ++v)
          out.element[v] = g.element(xs.element[v], mus.element[v]);
        store<V>(grad_value + j, out);
      }
      if (wants_mu) {
        for (int v = 0; v < V; ++v)
          out.element[v] = g.element(mus.element[v], xs.element[v]);
        store<V>(grad_mu + j, out);
      }
    });
  }
};

void log_prob_cuda(StableIValue *stack, uint64_t, uint64_t) {
  log_prob(stack, [](auto family, const auto &args) {
    using T = std::remove_pointer_t<decltype(args.out)>;
    launch_rows<T>(Forward<decltype(family), T>{args});
  });
}

void log_prob_backward_cuda(StableIValue *stack, uint64_t, uint64_t) {
  log_prob_backward(stack, [](auto family, const auto &args) {
    using T = std::decay_t<decltype(args.kappa(0))>;
    if (args.terms != 1)
      fail("CUDA kernels do not sum the gradient of an expanded vector");
    launch_rows<T>(Backward<decltype(family), T>{args});
  });
}

const int registered = [] {
  Implementations("CUDA")
      .op("log_prob", log_prob_cuda)
      .op("log_prob_backward", log_prob_backward_cuda);
  return 0;
}();
} // namespace
