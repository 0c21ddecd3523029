// rsample and its gradients. A sample is x = t mu + r g' (SampleCoefficients in math/types.h).
#include "../rsample.h"
#include "rows.cuh"

namespace {
using namespace spherical;

// Element j of the normals g is normal j mod 4 (float64: 2) of block j / 4 of the row's stream, so
// that a block fills a pack. A row of g that is too long for registers is kept in the result.
template <class Family, class Element> struct Forward {
  using T = Element;
  static constexpr int kSums = 3, kMinBlocks = is_float32<T> ? 3 : 1; // g . mu, |mu|^2, |g|^2
  static constexpr bool kMaySplit = true, kMaySum = false;
  static constexpr Layout kUnalignedLayout = Layout::neighbours;
  static_assert(kNormalsPerBlock<T> == kPackWidth<T>, "a block of normals fills a pack");
  RSample<T> args;

  struct Row {
    int64_t mu; // where its row begins
    int64_t i;  // its number
    T kappa;
    RowStream stream;
  };
  __device__ __forceinline__ Row row(int64_t i) const {
    int64_t at[2];
    args.operands.rows.offsets(i, at);
    return {at[args.kMu], i,
            args.operands.template concentration<Family>(args.kKappa, at[args.kKappa]),
            args.stream(i)};
  }

  // Where the first element of a pack of the sample is.
  __device__ __forceinline__ T *sample(const Row &row, const Place &at) const {
    return args.operands.array(args.kSample) + (row.i * args.operands.rows.d + at.first);
  }

  struct Held {
    Pack<T> g;
    Pack<T> mu;
  };
  struct Stored {
    Pack<T> g; // of the second pass
    BitsOf<T> mu;
  };
  __device__ __forceinline__ Stored load(const Row &row, const Place &at, Pass pass) const {
    return {pass == Pass::second ? spherical::load<kPackWidth<T>>(sample(row, at), at) : Pack<T>{},
            spherical::load(args.operands, args.kMu, row.mu, at)};
  }
  __device__ __forceinline__ Held held(const Row &row, const Place &at, const Stored &stored,
                                       Pass pass) const {
    Held held{stored.g, numbers(args.operands, args.kMu, at.layout, stored.mu)};
    if (pass == Pass::second)
      return held;
    if (at.has(0))
      normals(row.stream.words(0, static_cast<uint32_t>(at.first / kPackWidth<T>)).w,
              held.g.element);
    for (int k = 1; k < kPackWidth<T>; ++k)
      held.g.element[k] = at.has(k) ? held.g.element[k] : T(0);
    return held;
  }
  __device__ __forceinline__ void keep(const Row &row, const Place &at, const Held &held) const {
    store(sample(row, at), at, held.g);
  }
  __device__ __forceinline__ void terms(const Held &held, int k, T (&out)[3]) const {
    const T g = held.g.element[k], mu = held.mu.element[k];
    out[0] = g * mu;
    out[1] = mu * mu;
    out[2] = g * g;
  }

  // x = along_mu mu + along_g g
  struct Scalars {
    T along_mu;
    T along_g;
  };
  template <class Worker>
  __device__ __forceinline__ Scalars scalars(Worker &worker, const T (&sums)[3]) const {
    const Team &team = worker.team;
    const Row &row = worker.row;
    const T mu_mu = sums[1], length = std::sqrt(mu_mu), p = sums[0] / length;
    // g' = g - removed mu, |g'|^2 = |g|^2 - p^2: see csrc/cpu/rsample.cpp.
    T squared = sums[2] - p * p, removed = sums[0] / mu_mu;
    if (args.operands.rows.d < kReorthogonalised) {
      // Such a row is a pack for each thread of the team. Twice g <- g - (g . mu / |mu|^2) mu.
      for (int round = 0; round < 2; ++round) {
        T again[2] = {};
        for (int k = 0; k < kPackWidth<T>; ++k) {
          const T mu = worker.held[0].mu.element[k];
          T &g = worker.held[0].g.element[k];
          g -= removed * mu;
          again[0] += g * mu;
          again[1] += g * g;
        }
        team.sum(again);
        removed = again[0] / mu_mu;
        squared = again[1];
      }
      removed = 0;
    }
    T coefficients[2];
    if (team.rank == 0) {
      const auto sample = sample_coefficients<Family>(row.kappa, args.dim, p, T(0.5) * squared,
                                                      ProposalNoise<T>{row.stream});
      coefficients[0] = sample.t;
      coefficients[1] = sample.r;
    }
    team.broadcast(coefficients);
    return {coefficients[0] / length - coefficients[1] * removed, coefficients[1]};
  }

  __device__ bool writes() const { return true; }
  __device__ __forceinline__ void write(const Row &row, const Place &at, const Held &held,
                                        const Scalars &s) const {
    Pack<T> out;
    for (int k = 0; k < kPackWidth<T>; ++k)
      out.element[k] = s.along_mu * held.mu.element[k] + s.along_g * held.g.element[k];
    store(sample(row, at), at, out);
    if (args.operands.needs(args.kRounded))
      store(args.operands, args.kRounded, row.i * args.operands.rows.d, at, out);
  }
  struct Last {};
  __device__ Last last(const T (&)[3], const Scalars &) const { return {}; }
  __device__ void write_scalar(const Row &, int64_t, const Last &) const {}
};

template <class Family, class Element> struct Backward {
  using T = Element;
  static constexpr int kSums = kSampleSums;
  static constexpr bool kMaySplit = true, kMaySum = false;
  static constexpr int kMinBlocks = is_float32<T> ? 3 : 1;
  static constexpr Layout kUnalignedLayout = Layout::strided;
  RSampleBackward<T> args;

  struct Row {
    int64_t grad; // where the rows of the operands begin
    int64_t x;
    int64_t mu;
    T kappa;
    int64_t i; // its number: the gradient of mu has a row for each of the batch
  };
  __device__ __forceinline__ Row row(int64_t i) const {
    int64_t at[4];
    args.operands.rows.offsets(i, at);
    return {at[args.kGrad], at[args.kSample], at[args.kMu],
            args.operands.template concentration<Family>(args.kKappa, at[args.kKappa]), i};
  }

  struct Held {
    Pack<T> grad;
    Pack<T> x;
    Pack<T> mu;
  };
  struct Stored {
    BitsOf<T> grad;
    BitsOf<T> x;
    BitsOf<T> mu; // of the first pass: it is in the sums alone
  };
  // The elements of grad that are read: of a row of one value, that value.
  __device__ __forceinline__ Place place_of_grad(const Place &at) const {
    return args.uniform_grad ? Place{Layout::neighbours, 1, 0} : at;
  }
  __device__ __forceinline__ Stored load(const Row &row, const Place &at, Pass pass) const {
    return {spherical::load(args.operands, args.kGrad, row.grad, place_of_grad(at)),
            spherical::load(args.operands, args.kSample, row.x, at),
            pass == Pass::first ? spherical::load(args.operands, args.kMu, row.mu, at)
                                : BitsOf<T>{}};
  }
  __device__ __forceinline__ Held held(const Row &, const Place &at, const Stored &stored,
                                       Pass) const {
    Held held{numbers(args.operands, args.kGrad, place_of_grad(at).layout, stored.grad),
              numbers(args.operands, args.kSample, at.layout, stored.x),
              numbers(args.operands, args.kMu, at.layout, stored.mu)};
    for (int k = 1; k < kPackWidth<T>; ++k) // also where no element is: x and mu are 0 there
      held.grad.element[k] = args.uniform_grad ? held.grad.element[0] : held.grad.element[k];
    return held;
  }
  __device__ void keep(const Row &, const Place &, const Held &) const {}
  __device__ __forceinline__ void terms(const Held &held, int k, T (&out)[kSampleSums]) const {
    sample_terms(held.grad.element[k], held.x.element[k], held.mu.element[k], out);
  }

  template <class Worker>
  __device__ __forceinline__ SampleGradient<T> scalars(Worker &worker,
                                                       const T (&sums)[kSampleSums]) const {
    SampleGradient<T> g(sums);
    g.spread_nan(worker.row.kappa);
    return g;
  }

  __device__ bool writes() const { return args.operands.needs(args.kGradMu); }
  __device__ __forceinline__ void write(const Row &row, const Place &at, const Held &held,
                                        const SampleGradient<T> &g) const {
    Pack<T> out;
    for (int k = 0; k < kPackWidth<T>; ++k)
      out.element[k] = g.element(held.grad.element[k], held.x.element[k]);
    store(args.operands, args.kGradMu, row.i * args.operands.rows.d, at, out);
  }
  struct Last {
    HalfAngle<T> half_angle;
    T outward;
  };
  __device__ __forceinline__ Last last(const T (&)[kSampleSums], const SampleGradient<T> &g) const {
    return {g.half_angle, g.outward};
  }
  __device__ __forceinline__ void write_scalar(const Row &row, int64_t i, const Last &last) const {
    if (args.operands.needs(args.kGradKappa))
      args.operands.array(args.kGradKappa)[i] =
          Family::implicit_gradient(row.kappa, args.dim, last.half_angle) * last.outward;
  }
};

template <class Family, class T> void launch_forward(Family, const RSample<T> &args) {
  launch_rows(Forward<Family, T>{args});
}
template <class Family, class T> void launch_backward(Family, const RSampleBackward<T> &args) {
  require_no_sums(args.sums);
  launch_rows(Backward<Family, T>{args});
}

template <bool rounds> void rsample_cuda(StableIValue *stack, uint64_t, uint64_t) {
  unpack_rsample(stack, rounds,
                 [](auto family, const auto &args) { launch_forward(family, args); });
}

void rsample_backward_cuda(StableIValue *stack, uint64_t, uint64_t) {
  unpack_rsample_backward(stack,
                          [](auto family, const auto &args) { launch_backward(family, args); });
}

const int registered = [] {
  Implementations("CUDA")
      .op("rsample", rsample_cuda<false>)
      .op("rsample_rounded", rsample_cuda<true>)
      .op("rsample_backward", rsample_backward_cuda);
  return 0;
}();
} // namespace
