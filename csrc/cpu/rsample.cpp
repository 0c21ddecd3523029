// rsample and its gradients. A sample is x = t mu + r g', see Polar in math/portable.h: no division
// by a norm that can vanish, no reflection, no clamp (numerics F3).
#include "../rsample.h"
#include "random_words.h"
#include "row_io.h"

namespace {
using namespace spherical;

constexpr int64_t kBackwardRowCost = 256, kForwardRowCost = 256; // see row_grain

// What a row of normals takes in the buffer: whole blocks of random words.
template <class T> int64_t padded(int64_t d) {
  return (d + kNormalsPerBlock<T> - 1) / kNormalsPerBlock<T> * kNormalsPerBlock<T>;
}

// g[i, ...] = the normals of block i, from its words [n, 4].
SIMD_CLONES void normals_of_words(const uint32_t *words, int64_t n, float *g) {
  for (int64_t i = 0; i < 2 * n; ++i)
    normal_pair(words[2 * i], words[2 * i + 1], g[2 * i], g[2 * i + 1]);
}
void normals_of_words(const uint32_t *words, int64_t n, double *g) {
  for (int64_t i = 0; i < n; ++i)
    normals(words_at(words, i), g + 2 * i);
}

// g[r, j] ~ N(0, 1), element j from word j mod 4 (float32) of block j / 4 of the stream of row r.
template <class T>
void fill_normals(const RowStream &first, int64_t rows, int64_t d, T *g) { // g: [rows, padded d]
  Blocks blocks{};
  uint32_t words[4 * kBlocks];
  int64_t held = 0;
  const auto flush = [&] {
    block_words(first.seed, 0, blocks, held, words);
    normals_of_words(words, held, g);
    g += held * kNormalsPerBlock<T>;
    held = 0;
  };
  const int64_t per_row = padded<T>(d) / kNormalsPerBlock<T>;
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t i = 0; i < per_row;) {
      const int64_t end = std::min(held + per_row - i, kBlocks);
      for (; held < end; ++held, ++i) {
        blocks.row[held] = first.row + static_cast<uint64_t>(r);
        blocks.block[held] = static_cast<uint64_t>(i);
      }
      if (held == kBlocks)
        flush();
    }
  flush();
}

// a . mu, |mu|^2 and |a|^2
template <class T> HD_INLINE void dots_of(const T *a, const T *mu, int64_t d, T (&sums)[3]) {
  row_sums<T, 3>(d, sums, [=](int64_t i, T(&out)[3]) __attribute__((always_inline)) {
    out[0] = a[i] * mu[i];
    out[1] = mu[i] * mu[i];
    out[2] = a[i] * a[i];
  });
}
SIMD_CLONES void dots(const float *a, const float *mu, int64_t d, float (&sums)[3]) {
  dots_of(a, mu, d, sums);
}
SIMD_CLONES void dots(const double *a, const double *mu, int64_t d, double (&sums)[3]) {
  dots_of(a, mu, d, sums);
}

// g <- g - c mu; returns |g|^2
template <class T> HD_INLINE T remove_component_of(T *g, T c, const T *mu, int64_t d) {
  T sums[1];
  row_sums<T, 1>(d, sums, [=](int64_t i, T(&out)[1]) __attribute__((always_inline)) {
    g[i] -= c * mu[i];
    out[0] = g[i] * g[i];
  });
  return sums[0];
}
SIMD_CLONES float remove_component(float *g, float c, const float *mu, int64_t d) {
  return remove_component_of(g, c, mu, d);
}
SIMD_CLONES double remove_component(double *g, double c, const double *mu, int64_t d) {
  return remove_component_of(g, c, mu, d);
}

// out = a u + b v
template <class T> HD_INLINE void combine_of(T a, const T *u, T b, const T *v, int64_t d, T *out) {
  for (int64_t i = 0; i < d; ++i)
    out[i] = a * u[i] + b * v[i];
}
SIMD_CLONES void combine(float a, const float *u, float b, const float *v, int64_t d, float *out) {
  combine_of(a, u, b, v, d, out);
}
SIMD_CLONES void combine(double a, const double *u, double b, const double *v, int64_t d,
                         double *out) {
  combine_of(a, u, b, v, d, out);
}

template <class T>
HD_INLINE void backward_sums_of(const T *grad, const T *x, const T *mu, int64_t d,
                                T (&sums)[kSampleSums]) {
  row_sums<T, kSampleSums>(d, sums,
                           [=](int64_t i, T(&out)[kSampleSums]) __attribute__((always_inline)) {
                             sample_terms(grad[i], x[i], mu[i], out);
                           });
}
SIMD_CLONES void backward_sums(const float *grad, const float *x, const float *mu, int64_t d,
                               float (&sums)[kSampleSums]) {
  backward_sums_of(grad, x, mu, d, sums);
}
SIMD_CLONES void backward_sums(const double *grad, const double *x, const double *mu, int64_t d,
                               double (&sums)[kSampleSums]) {
  backward_sums_of(grad, x, mu, d, sums);
}

template <class T>
HD_INLINE void gradient_of(const SampleGradient<T> &g, const T *grad, const T *x, int64_t d,
                           T *out) {
  for (int64_t i = 0; i < d; ++i)
    out[i] = g.element(grad[i], x[i]);
}
SIMD_CLONES void gradient(const SampleGradient<float> &g, const float *grad, const float *x,
                          int64_t d, float *out) {
  gradient_of(g, grad, x, d, out);
}
SIMD_CLONES void gradient(const SampleGradient<double> &g, const double *grad, const double *x,
                          int64_t d, double *out) {
  gradient_of(g, grad, x, d, out);
}

// Row i of the upstream gradient; of sum().backward() it is one value, repeated.
template <class T>
const T *grad_row(const RSampleBackward<T> &args, int64_t i, std::vector<T> &buffer) {
  if (!args.uniform_grad)
    return read_row(args.in, args.kGrad, i, buffer);
  buffer.assign(static_cast<size_t>(args.in.rows.d), *args.grad(i));
  return buffer.data();
}

// The noise of a row's proposals, of which the first is at hand.
template <class T> struct PreparedNoise {
  ProposalNoise<T> noise;
  Words first;

  T normal(uint32_t trial) const { return noise.normal(trial); }
  void minus_two_logs(uint32_t trial, T &a, T &b) const {
    if (trial == 0)
      spherical::minus_two_logs(first, a, b);
    else
      noise.minus_two_logs(trial, a, b);
  }
};

// The sample of one row from its normals g, which are overwritten.
template <class Family, class T>
void sample_row(const RSample<T> &args, int64_t i, const T *mu, T *g, const Words &words) {
  const int64_t d = args.in.rows.d;
  T sums[3];
  dots(g, mu, d, sums);
  const T length = std::sqrt(sums[1]), p = sums[0] / length;
  // g' = g - removed mu, |g'|^2 = |g|^2 - p^2: in many dimensions the difference is never small
  // beside |g|^2 (below 1/100 of it with a probability of 1e-15 in d = 16), and g' is not stored.
  T squared = sums[2] - p * p, removed = sums[0] / sums[1];
  if (d < kReorthogonalised) {
    remove_component(g, removed, mu, d);
    dots(g, mu, d, sums);
    squared = remove_component(g, sums[0] / sums[1], mu, d);
    removed = 0;
  }
  const Polar<T> polar = sample_polar<Family>(args.kappa(i), args.dim, p, T(0.5) * squared,
                                              PreparedNoise<T>{{args.stream(i)}, words});
  combine(polar.t / length - polar.r * removed, mu, polar.r, g, d, args.out + i * d);
}

template <class Family, class T> void forward(const RSample<T> &args) {
  const int64_t d = args.in.rows.d, width = padded<T>(d);
  // Short rows together, so that their normals fill the arrays.
  const int64_t group = std::max<int64_t>(1, kBlocks * kNormalsPerBlock<T> / width);
  parallel_for(args.in.rows.n, row_grain(d, 4, kForwardRowCost), [&](int64_t begin, int64_t end) {
    std::vector<T> g(static_cast<size_t>(group * width)), mu;
    Blocks proposals{};
    std::fill_n(proposals.block, kBlocks, 1); // see ProposalNoise
    uint32_t words[4 * kBlocks];
    for (int64_t first = begin; first < end; first += group) {
      const int64_t rows = std::min(group, end - first);
      fill_normals(args.stream(first), rows, d, g.data());
      for (int64_t r = 0; r < rows; ++r)
        proposals.row[r] = args.stream(first + r).row;
      block_words(args.stream(first).seed, ProposalNoise<T>::number(0), proposals, rows, words);
      for (int64_t r = 0; r < rows; ++r)
        sample_row<Family>(args, first + r, read_row(args.in, args.kMu, first + r, mu),
                           g.data() + r * width, words_at(words, r));
    }
  });
}

// In the family's own function a loop may vectorise.
template <class Family, class T>
SIMD_CLONES __attribute__((flatten)) T pathwise(T kappa, const Dim<T> &dim, const Chords<T> &c) {
  return Family::pathwise(kappa, dim, c);
}

template <class Family, class T> void backward(const RSampleBackward<T> &args) {
  const int64_t d = args.in.rows.d;
  const auto &in = args.in;
  const auto row = [&](int64_t i, T *grad_mu, Scratch<T> &scratch) __attribute__((noinline)) {
    const T *grad = grad_row(args, i, scratch.row[0]);
    const T *x = read_row(in, args.kSample, i, scratch.row[1]);
    const T *mu = read_row(in, args.kMu, i, scratch.row[2]);
    T sums[kSampleSums];
    backward_sums(grad, x, mu, d, sums);
    const SampleGradient<T> g(sums);
    if (grad_mu)
      gradient(g, grad, x, d, grad_mu);
    if (args.wants(args.kGradKappa))
      *in.result(args.kGradKappa, i) =
          pathwise<Family>(args.kappa(i), args.dim, g.chords) * g.outward;
  };
  for_each_row(in, args.kGradMu, args.sums, args.terms, row_grain(d, 1, kBackwardRowCost), row);
}

void rsample_cpu(StableIValue *stack, uint64_t, uint64_t) {
  rsample(stack, [](auto family, const auto &args) { forward<decltype(family)>(args); });
}

void rsample_backward_cpu(StableIValue *stack, uint64_t, uint64_t) {
  rsample_backward(stack, [](auto family, const auto &args) { backward<decltype(family)>(args); });
}

const int registered = [] {
  Implementations("CPU").op("rsample", rsample_cpu).op("rsample_backward", rsample_backward_cpu);
  return 0;
}();
} // namespace
