// rsample and its gradients. A sample is x = t mu + r g', see Polar in math/portable.h.
#include "../rsample.h"
#include "rows.cuh"

namespace {
using namespace spherical;

// g[j] ~ N(0, 1), element j from word j mod 4 (float32) of block j / 4 of the row's stream.
template <int V, class T>
__device__ __forceinline__ void fill_normals(const Team &team, const RowStream &stream, int64_t d,
                                             T *g) {
  constexpr int width = kNormalsPerBlock<T>;
  for_each_pack<width>(team, 0, d, [=](int64_t j) {
    Pack<T, width> n;
    normals(stream.words(0, static_cast<uint32_t>(j / width)), n.element);
    if constexpr (V == width) {
      store<V>(g + j, n);
    } else {
      for (int k = 0; k < width; ++k)
        if (j + k < d)
          g[j + k] = n.element[k];
    }
  });
}

// a . mu and |mu|^2
template <int V, class T>
__device__ __forceinline__ void dots(const Team &team, const T *a, const T *mu, int64_t d,
                                     T (&sums)[2]) {
  row_sums<V>(team, d, sums, [=](int64_t j, T(&out)[V][2]) {
    const auto as = load<V>(a + j), mus = load<V>(mu + j);
    for (int v = 0; v < V; ++v) {
      out[v][0] = as.element[v] * mus.element[v];
      out[v][1] = mus.element[v] * mus.element[v];
    }
  });
}

// g <- g - c mu; returns |g|^2
template <int V, class T>
__device__ __forceinline__ T remove_component(const Team &team, T *g, T c, const T *mu, int64_t d) {
  T squared[1];
  row_sums<V>(team, d, squared, [=](int64_t j, T(&out)[V][1]) {
    auto gs = load<V>(g + j);
    const auto mus = load<V>(mu + j);
    for (int v = 0; v < V; ++v) {
      gs.element[v] -= c * mus.element[v];
      out[v][0] = gs.element[v] * gs.element[v];
    }
    store<V>(g + j, gs);
  });
  return squared[0];
}

// out = a u + b v; out may be u or v
template <int V, class T>
__device__ __forceinline__ void combine(const Team &team, T a, const T *u, T b, const T *v,
                                        int64_t d, T *out) {
  for_each_pack<V>(team, 0, d, [=](int64_t j) {
    auto us = load<V>(u + j);
    const auto vs = load<V>(v + j);
    for (int k = 0; k < V; ++k)
      us.element[k] = a * us.element[k] + b * vs.element[k];
    store<V>(out + j, us);
  });
}

// Row elements j to j + V - 1 of the upstream gradient.
template <int V, class T>
__device__ __forceinline__ Pack<T, V> load_grad(const T *grad, bool uniform, int64_t j) {
  if (!uniform)
    return load<V>(grad + j);
  Pack<T, V> pack;
  for (int v = 0; v < V; ++v)
    pack.element[v] = *grad;
  return pack;
}

// The normals g stay in shared memory, or, where a row is too long for that, in the row of the
// result.
template <class Family, class T> struct Forward {
  static constexpr bool wants_shared_row = true;
  static constexpr int blocks = 2; // to a multiprocessor, at least
  RSample<T> args;

  template <int V> __device__ void row(const Team &team, int64_t i) const {
    const int64_t d = args.in.rows.d;
    const RowStream stream = args.stream(i);
    const T *mu = args.mu(i);
    T *x = args.out + i * d;
    T *g = fits_shared(d * int64_t(sizeof(T)), team.size) ? shared_row<T>(team, d) : x;
    team.sync(); // the last row's g has been read
    fill_normals<V>(team, stream, d, g);
    team.sync();
    T sums[2];
    dots<V>(team, g, mu, d, sums);
    const T length = std::sqrt(sums[1]), p = sums[0] / length;
    T squared = remove_component<V>(team, g, sums[0] / sums[1], mu, d);
    if (d < kReorthogonalised) {
      dots<V>(team, g, mu, d, sums);
      squared = remove_component<V>(team, g, sums[0] / sums[1], mu, d);
    }
    const Polar<T> polar =
        sample_polar<Family>(args.kappa(i), args.dim, p, T(0.5) * squared, stream);
    combine<V>(team, polar.t / length, mu, polar.r, g, d, x);
  }
};

template <class Family, class T> struct Backward {
  static constexpr bool wants_shared_row = false;
  // to a multiprocessor, at least; pathwise of von Mises-Fisher spills in double at 2
  static constexpr int blocks = is_float32<T> ? 2 : 1;
  RSampleBackward<T> args;

  template <int V> __device__ void row(const Team &team, int64_t i) const {
    const int64_t d = args.in.rows.d;
    const T *grad = args.grad(i), *x = args.sample(i), *mu = args.mu(i);
    const bool uniform = args.uniform_grad;
    T sums[kSampleSums];
    row_sums<V>(team, d, sums, [=](int64_t j, T(&out)[V][kSampleSums]) {
      const auto grads = load_grad<V>(grad, uniform, j);
      const auto xs = load<V>(x + j), mus = load<V>(mu + j);
      for (int v = 0; v < V; ++v)
        sample_terms(grads.element[v], xs.element[v], mus.element[v], out[v]);
    });
    const bool writes_kappa = args.wants(args.kGradKappa) && team.rank == 0;
    const auto g = sample_gradient<Family>(args.kappa(i), args.dim, sums, writes_kappa);
    if (writes_kappa)
      *args.in.result(args.kGradKappa, i) = g.kappa;
    if (!args.wants(args.kGradMu))
      return;
    T *grad_mu = args.in.result(args.kGradMu, i);
    for_each_pack<V>(team, 0, d, [=](int64_t j) {
      const auto grads = load_grad<V>(grad, uniform, j);
      auto out = load<V>(x + j);
      for (int v = 0; v < V; ++v)
        out.element[v] = g.element(grads.element[v], out.element[v]);
      store<V>(grad_mu + j, out);
    });
  }
};

void rsample_cuda(StableIValue *stack, uint64_t, uint64_t) {
  rsample(stack, [](auto family, const auto &args) {
    using T = std::remove_pointer_t<decltype(args.out)>;
    launch_rows<T>(Forward<decltype(family), T>{args});
  });
}

void rsample_backward_cuda(StableIValue *stack, uint64_t, uint64_t) {
  rsample_backward(stack, [](auto family, const auto &args) {
    using T = std::decay_t<decltype(args.kappa(0))>;
    if (args.terms != 1)
      fail("CUDA kernels do not sum the gradient of an expanded vector");
    launch_rows<T>(Backward<decltype(family), T>{args});
  });
}

const int registered = [] {
  Implementations("CUDA").op("rsample", rsample_cuda).op("rsample_backward", rsample_backward_cuda);
  return 0;
}();
} // namespace
