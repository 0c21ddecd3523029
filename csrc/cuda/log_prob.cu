// log_prob and its gradients: the sums over a row, then the scalars of the family.
#include "../log_prob.h"
#include "rows.cuh"

namespace {
using namespace spherical;

// Reads x and mu, for |x - mu|^2 and |x + mu|^2.
template <class Arguments, class Element> struct ChordSums {
  using T = Element;
  static constexpr int kSums = 2;
  static constexpr bool kMaySplit = true;
  static constexpr Layout kUnalignedLayout = Layout::strided;
  Arguments args;

  struct Row {
    int64_t x;  // where the row of the operand begins
    int64_t mu; // likewise
    T kappa;
  };
  struct Held {
    Pack<T> x;
    Pack<T> mu;
  };
  __device__ __forceinline__ Held read(const Row &row, const Place &at) const {
    return {load(args.operands, args.kValue, row.x, at), load(args.operands, args.kMu, row.mu, at)};
  }
  __device__ __forceinline__ Held read_again(const Row &row, const Place &at) const {
    return read(row, at);
  }
  __device__ void keep(const Row &, const Place &, const Held &) const {}
  __device__ __forceinline__ void terms(const Held &held, int k, T (&out)[2]) const {
    chord_terms(held.x.element[k], held.mu.element[k], out);
  }
};

template <class Family, class T> struct Forward : ChordSums<LogProb<T>, T> {
  using Base = ChordSums<LogProb<T>, T>;
  using Base::args;
  using typename Base::Held, typename Base::Row;
  static constexpr int kMinBlocks = is_float32<T> ? 3 : 2;

  __device__ __forceinline__ Row row(int64_t i) const {
    int64_t at[3];
    args.operands.rows.offsets(i, at);
    return {at[args.kValue], at[args.kMu],
            args.operands.template concentration<Family>(args.kKappa, at[args.kKappa])};
  }

  struct Scalars {};
  template <class Worker> __device__ Scalars scalars(Worker &, const T (&)[2]) const { return {}; }
  __device__ bool writes() const { return false; }
  __device__ void write(const Row &, const Place &, const Held &, Scalars) const {}
  __device__ __forceinline__ void write_scalar(const Row &row, int64_t i, const T (&sums)[2],
                                               Scalars) const {
    args.operands.array(args.kLogProb)[i] =
        log_density<Family>(row.kappa, args.dim, sums[0], sums[1]);
  }
};

template <class Family, class T> struct Backward : ChordSums<LogProbBackward<T>, T> {
  using Base = ChordSums<LogProbBackward<T>, T>;
  using Base::args;
  using typename Base::Held;
  static constexpr int kMinBlocks = 2;

  struct Row : Base::Row {
    T upstream;
    int64_t out; // where the gradients of the row begin
  };
  __device__ __forceinline__ Row row(int64_t i) const {
    int64_t at[4];
    args.operands.rows.offsets(i, at);
    return {{at[args.kValue], at[args.kMu],
             args.operands.template concentration<Family>(args.kKappa, at[args.kKappa])},
            args.operands.scalar(args.kGrad, at[args.kGrad]),
            i * args.operands.rows.d};
  }

  template <class Worker>
  __device__ __forceinline__ DensityGradient<T> scalars(Worker &worker, const T (&sums)[2]) const {
    return density_gradient<Family>(worker.row.upstream, worker.row.kappa, args.dim, sums[0],
                                    sums[1]);
  }

  __device__ bool writes() const {
    return args.operands.needs(args.kGradValue) || args.operands.needs(args.kGradMu);
  }
  __device__ __forceinline__ void write(const Row &row, const Place &at, const Held &held,
                                        const DensityGradient<T> &g) const {
    if (args.operands.needs(args.kGradValue))
      store(args.operands, args.kGradValue, row.out, at, elements(g, held.x, held.mu));
    if (args.operands.needs(args.kGradMu))
      store(args.operands, args.kGradMu, row.out, at, elements(g, held.mu, held.x));
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
    if (args.operands.needs(args.kGradKappa))
      args.operands.array(args.kGradKappa)[i] = density_gradient_kappa<Family>(
          row.upstream, row.kappa, args.dim, Family::log_prob_at_mode_dkappa(row.kappa, args.dim),
          sums[0], sums[1]);
  }
};

template <class Family, class T> void launch_forward(Family, const LogProb<T> &args) {
  launch_rows(Forward<Family, T>{{args}});
}
template <class Family, class T> void launch_backward(Family, const LogProbBackward<T> &args) {
  require_no_sums(args.sums);
  launch_rows(Backward<Family, T>{{args}});
}

void log_prob_cuda(StableIValue *stack, uint64_t, uint64_t) {
  unpack_log_prob(stack, [](auto family, const auto &args) { launch_forward(family, args); });
}

void log_prob_backward_cuda(StableIValue *stack, uint64_t, uint64_t) {
  unpack_log_prob_backward(stack,
                           [](auto family, const auto &args) { launch_backward(family, args); });
}

const int registered = [] {
  Implementations("CUDA")
      .op("log_prob", log_prob_cuda)
      .op("log_prob_backward", log_prob_backward_cuda);
  return 0;
}();
} // namespace
