// log_prob and its gradients: the sums over a row, then the scalars of the family.
#include "../log_prob.h"
#include "rows.cuh"

namespace {
using namespace spherical;

// Reading x and mu, for |x - mu|^2 and |x + mu|^2.
template <class Element> struct ChordSums {
  using T = Element;
  using S = T;
  static constexpr int kSums = 2;
  static constexpr Layout kNarrow = Layout::strided;
  struct Held {
    Pack<T> x;
    Pack<T> mu;
  };

  template <class Row> __device__ __forceinline__ Held read(const Row &row, const Place &at) const {
    return {load<T>(row.x, at), load<T>(row.mu, at)};
  }
  template <class Row>
  __device__ __forceinline__ Held read_again(const Row &row, const Place &at) const {
    return read(row, at);
  }
  template <class Row> __device__ void keep(const Row &, const Place &, const Held &) const {}
  __device__ __forceinline__ void terms(const Held &held, int k, T (&out)[2]) const {
    chord_terms(held.x.element[k], held.mu.element[k], out);
  }
};

template <class Family, class T> struct Forward : ChordSums<T> {
  static constexpr int kBlocks = is_float32<T> ? 4 : 2;
  using Held = typename ChordSums<T>::Held;
  LogProb<T> args;

  explicit Forward(const LogProb<T> &args) : args(args) {}

  struct Row {
    const T *x;  // [d]
    const T *mu; // [d]
    T kappa;
  };
  __device__ __forceinline__ Row row(int64_t i) const {
    int64_t at[3];
    args.in.rows.offsets(i, at);
    const auto &data = args.in.data;
    return {data[0] + at[0], data[1] + at[1], data[2][at[2]]};
  }

  struct Scalars {};
  template <class Worker> __device__ Scalars scalars(Worker &, const T (&)[2]) const { return {}; }
  __device__ bool writes() const { return false; }
  __device__ void write(const Row &, const Place &, const Held &, Scalars) const {}
  __device__ __forceinline__ void write_scalar(const Row &row, int64_t i, const T (&sums)[2],
                                               Scalars) const {
    args.out[i] = log_density<Family>(row.kappa, args.dim, sums[0], sums[1]);
  }
};

template <class Family, class T> struct Backward : ChordSums<T> {
  static constexpr int kBlocks = is_float32<T> ? 3 : 2;
  using Held = typename ChordSums<T>::Held;
  LogProbBackward<T> args;

  explicit Backward(const LogProbBackward<T> &args) : args(args) {}

  struct Row {
    const T *x;  // [d]
    const T *mu; // [d]
    T kappa;
    T upstream;
    int64_t out; // where the gradients of the row begin
  };
  __device__ __forceinline__ Row row(int64_t i) const {
    int64_t at[4];
    args.in.rows.offsets(i, at);
    const auto &data = args.in.data;
    return {data[1] + at[1], data[2] + at[2], data[3][at[3]], data[0][at[0]], i * args.in.rows.d};
  }

  __device__ __forceinline__ DensityGradient<T> gradient(const Row &row, const T (&sums)[2],
                                                         bool want_kappa) const {
    return density_gradient<Family>(row.upstream, row.kappa, args.dim, sums[0], sums[1],
                                    want_kappa);
  }
  template <class Worker>
  __device__ __forceinline__ DensityGradient<T> scalars(Worker &worker, const T (&sums)[2]) const {
    return gradient(worker.row, sums, false);
  }

  __device__ bool writes() const { return args.grad_value || args.grad_mu; }
  __device__ __forceinline__ void write(const Row &row, const Place &at, const Held &held,
                                        const DensityGradient<T> &g) const {
    if (args.grad_value)
      store(args.grad_value + row.out, at, elements(g, held.x, held.mu));
    if (args.grad_mu)
      store(args.grad_mu + row.out, at, elements(g, held.mu, held.x));
  }
  static __device__ __forceinline__ Pack<T> elements(const DensityGradient<T> &g, const Pack<T> &a,
                                                     const Pack<T> &b) {
    Pack<T> out;
    for (int k = 0; k < kPackWidth<T>; ++k)
      out.element[k] = g.element(a.element[k], b.element[k]);
    return out;
  }
  __device__ __forceinline__ void write_scalar(const Row &row, int64_t i, const T (&sums)[2],
                                               const DensityGradient<T> &) const {
    if (args.grad_kappa)
      args.grad_kappa[i] = gradient(row, sums, true).kappa;
  }
};

void log_prob_cuda(StableIValue *stack, uint64_t, uint64_t) {
  log_prob(stack, [](auto family, const auto &args) {
    using T = std::remove_pointer_t<decltype(args.out)>;
    launch_rows(Forward<decltype(family), T>(args));
  });
}

void log_prob_backward_cuda(StableIValue *stack, uint64_t, uint64_t) {
  log_prob_backward(stack, [](auto family, const auto &args) {
    using T = std::remove_pointer_t<decltype(args.grad_kappa)>;
    launch_rows(Backward<decltype(family), T>(args));
  });
}

const int registered = [] {
  Implementations("CUDA")
      .op("log_prob", log_prob_cuda)
      .op("log_prob_backward", log_prob_backward_cuda);
  return 0;
}();
} // namespace
