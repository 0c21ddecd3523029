// The VI-SimSiam loss and its gradients: one pass over each row for the cosine, then one over the
// same row, now in the cache, for the gradients.
#include "../vi_simsiam.h"
#include "row_io.h"

namespace {
using namespace spherical;

constexpr int64_t kRowCost = 300; // see row_grain

// Rows are summed in double, as in log_prob. That leaves floats 29 bits to lose.
template <class T> constexpr double kDigitsLost = is_float32<T> ? 1e-6 : kNearPole;

template <class T>
HD_INLINE void cosine_sums_of(const T *mu, const T *x, int64_t d, double (&sums)[kCosineSums]) {
  row_sums<double, kCosineSums>(
      d, sums, [=](int64_t i, double (&out)[kCosineSums]) __attribute__((always_inline)) {
        cosine_terms<double>(mu[i], x[i], out);
      });
}

template <class T>
HD_INLINE void pole_sums_of(const Cosine<double> &cosine, const T *mu, const T *x, int64_t d,
                            double (&sums)[kPoleSums]) {
  row_sums<double, kPoleSums>(
      d, sums, [=](int64_t i, double (&out)[kPoleSums]) __attribute__((always_inline)) {
        cosine.pole_terms(mu[i], x[i], out);
      });
}

// out = scale (a - (a . b / b . b) b): in double near a pole, where that cancels.
template <class T>
HD_INLINE void orthogonal_of(const Orthogonal<double> &part, bool near_pole, double scale,
                             const T *a, const T *b, int64_t d, T *out) {
  if (near_pole) {
    for (int64_t i = 0; i < d; ++i)
      out[i] = static_cast<T>(scale * part.exact(a[i], b[i]));
    return;
  }
  const T s = static_cast<T>(scale), ratio = static_cast<T>(part.ratio);
  for (int64_t i = 0; i < d; ++i)
    out[i] = s * (a[i] - ratio * b[i]);
}

#define LOOPS_OVER_ROWS_OF(T)                                                                      \
  SIMD_CLONES void cosine_sums(const T *mu, const T *x, int64_t d, double (&sums)[kCosineSums]) {  \
    cosine_sums_of(mu, x, d, sums);                                                                \
  }                                                                                                \
  SIMD_CLONES void pole_sums(const Cosine<double> &cosine, const T *mu, const T *x, int64_t d,     \
                             double (&sums)[kPoleSums]) {                                          \
    pole_sums_of(cosine, mu, x, d, sums);                                                          \
  }                                                                                                \
  SIMD_CLONES void orthogonal(const Orthogonal<double> &part, bool near_pole, double scale,        \
                              const T *a, const T *b, int64_t d, T *out) {                         \
    orthogonal_of(part, near_pole, scale, a, b, d, out);                                           \
  }
LOOPS_OVER_ROWS_OF(float)
LOOPS_OVER_ROWS_OF(double)
#undef LOOPS_OVER_ROWS_OF

// A row as the loops take it, converted into `buffer` from half precision; and back to its place.
template <class T, class S> const S *read_row(const T *row, int64_t d, std::vector<S> &buffer) {
  if constexpr (std::is_same_v<T, S>) {
    return row;
  } else {
    buffer.resize(static_cast<size_t>(d));
    convert_row(T{}, row, d, buffer.data());
    return buffer.data();
  }
}
template <class T, class S>
void write_orthogonal(const Orthogonal<double> &part, bool near_pole, double scale, const S *a,
                      const S *b, int64_t d, T *out, std::vector<S> &buffer) {
  if constexpr (std::is_same_v<T, S>) {
    orthogonal(part, near_pole, scale, a, b, d, out);
  } else {
    buffer.resize(static_cast<size_t>(d));
    orthogonal(part, near_pole, scale, a, b, d, buffer.data());
    convert_row(T{}, buffer.data(), d, out);
  }
}

template <class Family, class T> void rows(const VISimSiamLoss<T> &args) {
  using S = Accumulator<T>;
  const int64_t d = args.rows.d;
  const auto dim = make_dim<double>(d);
  parallel_for(args.rows.n, row_grain(d, 2, kRowCost), [&](int64_t begin, int64_t end) {
    std::vector<S> mu_buffer, x_buffer, grad_buffer; // for rows in half precision
    for (int64_t i = begin; i < end; ++i) {
      const S *mu = read_row(args.pred(i), d, mu_buffer);
      const S *x = read_row(args.target(i), d, x_buffer);
      double sums[kCosineSums];
      cosine_sums(mu, x, d, sums);
      Cosine<double> cosine(sums);
      const bool near_pole = cosine.within(kNearPole);
      if (near_pole && cosine.within(kDigitsLost<S>)) {
        double pole[kPoleSums];
        pole_sums(cosine, mu, x, d, pole);
        cosine.set_pole_sums(sums, pole);
      }
      const double kappa = args.kappa(i), grad = args.grad(i);
      const auto loss = row_loss<Family>(kappa, dim, cosine.half_angle, args.grad_kappa != nullptr);
      args.out[i] = static_cast<S>(loss.value);
      if (args.grad_kappa)
        args.grad_kappa[i] = static_cast<S>(grad * loss.dkappa);
      const double step =
          grad * cosine.inverse *
          row_loss_dt<Family>(kappa, dim, static_cast<double>(args.beta), cosine.half_angle);
      if (args.grad_pred)
        write_orthogonal(cosine.of_x, near_pole, step, x, mu, d, args.grad_pred + i * d,
                         grad_buffer);
      if (args.grad_target)
        write_orthogonal(cosine.of_mu, near_pole, step, mu, x, d, args.grad_target + i * d,
                         grad_buffer);
    }
  });
}

const int registered = [] {
  Implementations("CPU").op("vi_simsiam_loss", [](StableIValue *stack, uint64_t, uint64_t) {
    vi_simsiam_loss(stack, [](auto family, const auto &args) { rows<decltype(family)>(args); });
  });
  return 0;
}();
} // namespace
