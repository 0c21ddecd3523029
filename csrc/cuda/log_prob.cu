// log_prob and its gradients: the sums over a row, then the scalars of the family.
#include "../log_prob.h"
#include "rows.cuh"

namespace {
using namespace spherical;

// Reads x and mu, and sums their chords.
template <class Arguments, class T>
struct ChordSums : ReadsXAndMu<Arguments, T, Arguments::kValue, Arguments::kMu> {
  using typename ReadsXAndMu<Arguments, T, Arguments::kValue, Arguments::kMu>::Held;
  static constexpr int kSums = kChordSums;
  static constexpr bool kMaySplit = true;

  __device__ __forceinline__ void terms(const Held &held, int k, T (&out)[kChordSums]) const {
    const T x = held.x.element[k], mu = held.mu.element[k];
    chord_terms(x - mu, x + mu, out);
  }

  // The angle of a row whose chords cancel, because the lengths of x and mu differ: from the chords
  // of vectors of one length, in double.
  template <class Worker> static __device__ Cosine<double> measure_again(Worker &worker) {
    T squares[2];
    worker.sum_again(squares, [](const Held &held, int k, T(&out)[2]) {
      const T x = held.x.element[k], mu = held.mu.element[k];
      out[0] = x * x;
      out[1] = mu * mu;
    });
    // A ratio of type float has exact products with floats.
    const T ratio = std::sqrt(squares[0]) / std::sqrt(squares[1]);
    double chords[kChordSums];
    worker.sum_again(chords, [ratio](const Held &held, int k, double (&out)[kChordSums]) {
      const double x = held.x.element[k], mu = held.mu.element[k], factor = ratio;
      chord_terms(std::fma(-factor, mu, x), std::fma(factor, mu, x), out);
    });
    return Cosine<double>::from(Chords<double>(chords), double{ratio});
  }
};

template <class T> __device__ HalfAngle<T> rounded(const HalfAngle<double> &c) {
  return {static_cast<T>(c.sin2), static_cast<T>(c.cos2)};
}
template <class T> __device__ Orthogonal<T> rounded(const Orthogonal<double> &part) {
  const T ratio = static_cast<T>(part.ratio);
  return {ratio, static_cast<T>((part.ratio - ratio) + part.rest)};
}

template <class Family, class T> struct Forward : ChordSums<LogProb<T>, T> {
  using Base = ChordSums<LogProb<T>, T>;
  using Base::args;
  using typename Base::Held, typename Base::Row;
  static constexpr int kMinBlocks = is_float32<T> ? 4 : 3;

  __device__ __forceinline__ Row row(int64_t i) const {
    int64_t at[3];
    args.operands.rows.offsets(i, at);
    return {at[args.kValue], at[args.kMu]};
  }

  template <class Worker>
  __device__ __forceinline__ HalfAngle<T> scalars(Worker &worker,
                                                  const T (&sums)[kChordSums]) const {
    const Chords<T> chords(sums);
    return chords.cancels() ? rounded<T>(Base::measure_again(worker).half_angle)
                            : chords.half_angle();
  }
  __device__ bool writes() const { return false; }
  __device__ void write(const Row &, const Place &, const Held &, HalfAngle<T>) const {}
  using Last = HalfAngle<T>;
  __device__ __forceinline__ Last last(const T (&)[kChordSums], HalfAngle<T> half_angle) const {
    return half_angle;
  }
  __device__ __forceinline__ void write_scalar(const Row &, int64_t i, const Last &last) const {
    int64_t at[3];
    args.operands.rows.offsets(i, at);
    const T kappa = args.operands.template concentration<Family>(args.kKappa, at[args.kKappa]);
    args.operands.array(args.kLogProb)[i] = log_density<Family>(kappa, args.dim, last);
  }
};

template <class Family, class T> struct Backward : ChordSums<LogProbBackward<T>, T> {
  using Base = ChordSums<LogProbBackward<T>, T>;
  using Base::args;
  using typename Base::Held;
  static constexpr int kMinBlocks = is_float32<T> ? 3 : 2;

  struct Row : Base::Row {
    T kappa;
    T upstream;
    int64_t i; // its number: the gradients have a row for each of the batch
  };
  __device__ __forceinline__ Row row(int64_t i) const {
    int64_t at[4];
    args.operands.rows.offsets(i, at);
    return {{at[args.kValue], at[args.kMu]},
            args.operands.template concentration<Family>(args.kKappa, at[args.kKappa]),
            args.operands.scalar(args.kGrad, at[args.kGrad]),
            i};
  }

  struct Scalars {
    Cosine<T> cosine;
    T step; // of the gradients of both vectors
  };
  template <class Worker>
  __device__ __forceinline__ Scalars scalars(Worker &worker, const T (&sums)[kChordSums]) const {
    const Chords<T> chords(sums);
    Cosine<T> cosine = Cosine<T>::from(chords);
    if (chords.cancels()) { // all threads of the team, or none
      const Cosine<double> c = Base::measure_again(worker);
      cosine = {rounded<T>(c.half_angle), rounded<T>(c.x_part), rounded<T>(c.mu_part),
                static_cast<T>(c.inverse)};
    }
    const Row &row = worker.row;
    return {cosine, row.upstream *
                        Family::log_prob_ratio_dt(row.kappa, args.dim, cosine.half_angle) *
                        cosine.inverse};
  }

  __device__ bool writes() const {
    return args.operands.needs(args.kGradValue) || args.operands.needs(args.kGradMu);
  }
  __device__ __forceinline__ void write(const Row &row, const Place &at, const Held &held,
                                        const Scalars &s) const {
    if (args.operands.needs(args.kGradValue))
      store(args.operands, args.kGradValue, row.i * args.operands.rows.d, at,
            elements(s.cosine.mu_part, s.step, held.mu, held.x));
    if (args.operands.needs(args.kGradMu))
      store(args.operands, args.kGradMu, row.i * args.operands.rows.d, at,
            elements(s.cosine.x_part, s.step, held.x, held.mu));
  }
  using Last = HalfAngle<T>;
  __device__ __forceinline__ Last last(const T (&)[kChordSums], const Scalars &s) const {
    return s.cosine.half_angle;
  }
  __device__ __forceinline__ void write_scalar(const Row &row, int64_t i, const Last &last) const {
    if (args.operands.needs(args.kGradKappa))
      args.operands.array(args.kGradKappa)[i] = density_gradient_kappa<Family>(
          row.upstream, row.kappa, args.dim, Family::log_prob_at_mode_dkappa(row.kappa, args.dim),
          last);
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
