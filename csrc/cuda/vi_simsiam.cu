// The VI-SimSiam loss and its gradients: sums over a row, near a pole further sums that need the
// first, then the gradients.
#include "../vi_simsiam.h"
#include "rows.cuh"

namespace {
using namespace spherical;

template <class T>
using Vectors =
    ReadsXAndMu<VISimSiamLoss<T>, T, VISimSiamLoss<T>::kTarget, VISimSiamLoss<T>::kPred>;

template <class Family, class T> struct Loss : Vectors<T> {
  using Vectors<T>::args;
  using typename Vectors<T>::Held;
  static constexpr int kSums = kAngleProducts;
  static constexpr int kMinBlocks = is_float32<T> ? 3 : 1;
  static constexpr bool kMaySplit = false; // many rows may be near a pole, and summed again
  static constexpr bool kMaySum = true;

  struct Row : Vectors<T>::Row {
    T upstream;
    T kappa;
    int64_t i; // its number: the gradients have a row for each of the batch
  };
  __device__ __forceinline__ Row row(int64_t i) const {
    int64_t at[4];
    args.operands.rows.offsets(i, at);
    return {{at[args.kTarget], at[args.kPred]},
            args.upstream(at[args.kGrad]),
            args.operands.template concentration<Family>(args.kKappa, at[args.kKappa]),
            i};
  }

  __device__ __forceinline__ void terms(const Held &held, int k, T (&out)[kSums]) const {
    product_terms(held.x.element[k], held.mu.element[k], out);
  }

  struct Scalars {
    Cosine<T> cosine;
    T step; // of the gradients of both vectors
  };
  template <class Worker>
  __device__ __forceinline__ Scalars scalars(Worker &worker, const T (&sums)[kSums]) const {
    Cosine<T> cosine = cosine_of_products(sums);
    if (is_within(cosine.half_angle, T(kNearPole))) { // all threads of the team, or none
      const T ratio = length_ratio(sums);
      T chords[kChordSums];
      worker.sum_again(chords, [ratio](const Held &held, int k, T(&out)[kChordSums]) {
        const T x = held.x.element[k], mu = held.mu.element[k];
        chord_terms(std::fma(-ratio, mu, x), std::fma(ratio, mu, x), out);
      });
      cosine = Cosine<T>::from(Chords<T>(chords), ratio);
    }
    const Row &row = worker.row;
    return {cosine, row.upstream * cosine.inverse *
                        row_loss_dt<Family>(row.kappa, args.dim, args.beta, cosine.half_angle)};
  }

  __device__ bool writes() const {
    return args.operands.needs(args.kGradPred) || args.operands.needs(args.kGradTarget);
  }
  __device__ __forceinline__ void write(const Row &row, const Place &at, const Held &held,
                                        const Scalars &s) const {
    if (args.operands.needs(args.kGradPred))
      store(args.operands, args.kGradPred, row.i * args.operands.rows.d, at,
            elements(s.cosine.x_part, s.step, held.x, held.mu));
    if (args.operands.needs(args.kGradTarget))
      store(args.operands, args.kGradTarget, row.i * args.operands.rows.d, at,
            elements(s.cosine.mu_part, s.step, held.mu, held.x));
  }
  using Last = HalfAngle<T>;
  __device__ __forceinline__ Last last(const T (&)[kSums], const Scalars &s) const {
    return s.cosine.half_angle;
  }
  __device__ __forceinline__ T write_scalar(const Row &row, int64_t i, const Last &c) const {
    const T loss = row_loss<Family>(row.kappa, args.dim,
                                    Family::log_prob_at_mode_over_uniform(row.kappa, args.dim), c);
    if (!sums_rows())
      args.operands.array(args.kLoss)[i] = loss;
    if (args.operands.needs(args.kGradKappa))
      args.operands.array(args.kGradKappa)[i] =
          row.upstream *
          row_loss_dkappa<Family>(row.kappa, args.dim,
                                  Family::log_prob_at_mode_dkappa(row.kappa, args.dim), c);
    return row.upstream * loss;
  }

  HD_INLINE bool sums_rows() const { return args.sum != nullptr; }
  __device__ T *block_sums() const { return args.operands.array(args.kLoss); }
  __device__ void write_sum(double sum) const {
    *args.sum = static_cast<T>(args.start ? *args.start + sum : sum);
  }
};

template <class Family, class T> void launch_loss(Family, const VISimSiamLoss<T> &args) {
  launch_rows(Loss<Family, T>{args});
}

void vi_simsiam_loss_cuda(StableIValue *stack, uint64_t, uint64_t) {
  unpack_vi_simsiam_loss(stack, [](auto family, const auto &args) { launch_loss(family, args); });
}

const int registered = [] {
  Implementations("CUDA").op("vi_simsiam_loss", vi_simsiam_loss_cuda);
  return 0;
}();
} // namespace
