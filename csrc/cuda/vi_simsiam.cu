// The VI-SimSiam loss and its gradients: sums over a row, near a pole further sums that need the
// first, then the gradients. Only the first time does the row come from memory and not from a
// cache.
#include "../vi_simsiam.h"
#include "rows.cuh"

namespace {
using namespace spherical;

constexpr int kBlockThreads = 256;
constexpr int64_t kLongestOfWarp = 1024; // elements of a row; a longer one takes the block

// Neighbouring elements that one thread moves by one instruction.
template <class T, int V> struct alignas(V * sizeof(T)) Elements {
  T at[V];
};
template <int V, class T> __device__ __forceinline__ Elements<T, V> read(const T *p) {
  return *reinterpret_cast<const Elements<T, V> *>(p);
}

template <class Family, class T> struct Loss {
  using S = Accumulator<T>;
  VISimSiamLoss<T> args;

  // The first of each V elements that are this thread's: f(j)
  template <int V, class F>
  __device__ __forceinline__ static void for_each(const Team &team, int64_t begin, int64_t end,
                                                  const F &f) {
    for (int64_t j = begin + team.rank * V; j < end; j += team.size * V)
      f(j);
  }

  // In stretches, so that the error does not grow with d.
  template <int V, int N, class Term>
  __device__ __forceinline__ static void sum(const Team &team, const T *mu, const T *x, int64_t d,
                                             S (&sums)[N], const Term &term) {
    const int64_t stretch = int64_t{64} * team.size * V;
    for (int k = 0; k < N; ++k)
      sums[k] = 0;
    for (int64_t begin = 0; begin < d; begin += stretch) {
      S partial[N] = {};
      for_each<V>(team, begin, begin + stretch < d ? begin + stretch : d, [&](int64_t j) {
        const auto mus = read<V>(mu + j), xs = read<V>(x + j);
        for (int v = 0; v < V; ++v) {
          S out[N];
          term(widened(mus.at[v]), widened(xs.at[v]), out);
          for (int k = 0; k < N; ++k)
            partial[k] += out[k];
        }
      });
      for (int k = 0; k < N; ++k)
        sums[k] += partial[k];
    }
    team.sum(sums);
  }

  // out = scale (a - (a . b / b . b) b)
  template <int V>
  __device__ __forceinline__ static void
  write_orthogonal(const Team &team, const Orthogonal<S> &part, S scale, const T *a, const T *b,
                   int64_t d, T *out) {
    for_each<V>(team, 0, d, [=](int64_t j) {
      const auto as = read<V>(a + j), bs = read<V>(b + j);
      Elements<T, V> result;
      for (int v = 0; v < V; ++v)
        result.at[v] = narrowed<T>(scale * part.exact(widened(as.at[v]), widened(bs.at[v])));
      *reinterpret_cast<Elements<T, V> *>(out + j) = result;
    });
  }

  template <int V> __device__ void row(const Team &team, int64_t i) const {
    const int64_t d = args.rows.d;
    const T *mu = args.pred(i), *x = args.target(i);
    S sums[kCosineSums];
    sum<V>(team, mu, x, d, sums, [](S m, S v, S(&out)[kCosineSums]) { cosine_terms(m, v, out); });
    Cosine<S> cosine(sums);
    if (cosine.within(S(kNearPole))) { // all of the team, or none
      S pole[kPoleSums];
      sum<V>(team, mu, x, d, pole,
             [=](S m, S v, S(&out)[kPoleSums]) { cosine.pole_terms(m, v, out); });
      cosine.set_pole_sums(sums, pole);
    }
    const S kappa = args.kappa(i);
    const S step = args.grad(i) * cosine.inverse *
                   row_loss_dt<Family>(kappa, args.dim, args.beta, cosine.half_angle);
    if (args.grad_pred)
      write_orthogonal<V>(team, cosine.of_x, step, x, mu, d, args.grad_pred + i * d);
    if (args.grad_target)
      write_orthogonal<V>(team, cosine.of_mu, step, mu, x, d, args.grad_target + i * d);
    if (team.rank != 0)
      return;
    const auto loss =
        row_loss<Family>(kappa, args.dim, cosine.half_angle, args.grad_kappa != nullptr);
    args.out[i] = loss.value;
    if (args.grad_kappa)
      args.grad_kappa[i] = args.grad(i) * loss.dkappa;
  }
};

template <int V, class Kernel>
__global__ void __launch_bounds__(kBlockThreads, 2)
    for_each_pair(const __grid_constant__ Kernel kernel, const int team_size) {
  const Team team(team_size);
  const int64_t n = kernel.args.rows.n, per_block = kBlockThreads / team_size;
  for (int64_t i = blockIdx.x * per_block + team.index; i < n; i += gridDim.x * per_block)
    kernel.template row<V>(team, i);
}

template <int V, class Kernel> void launch_pairs(const Kernel &kernel) {
  const int64_t n = kernel.args.rows.n, d = kernel.args.rows.d;
  int team = 1;
  while (team < 32 && team * V < d)
    team *= 2;
  if (d > kLongestOfWarp)
    team = kBlockThreads;
  const int64_t per_block = kBlockThreads / team;
  launch(kernel.args.device, for_each_pair<V, Kernel>, (n + per_block - 1) / per_block,
         kBlockThreads, kernel, team);
}

const int registered = [] {
  Implementations("CUDA").op("vi_simsiam_loss", [](StableIValue *stack, uint64_t, uint64_t) {
    vi_simsiam_loss(stack, [](auto family, const auto &args) {
      using T = std::remove_pointer_t<decltype(args.grad_pred)>;
      const Loss<decltype(family), T> kernel{args};
      if (args.is_aligned(16))
        launch_pairs<16 / sizeof(T)>(kernel);
      else
        launch_pairs<1>(kernel);
    });
  });
  return 0;
}();
} // namespace
