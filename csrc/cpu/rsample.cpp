// rsample and its gradients. A sample is x = t mu + r g' (SampleCoefficients in math/types.h),
// without a division by a norm that can vanish, a reflection or a clamp (docs/numerics.md#sampler).
#include "../rsample.h"
#include "../registration.h"
#include "family_rows.h"
#include "random_words.h"
#include "reduce.h"
#include "sums.h"

namespace {
using namespace spherical;

constexpr int64_t kBackwardRowCost = 256, kForwardRowCost = 256; // see row_grain

// The length of a row of normals in the buffer: whole blocks of random words.
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
  WordBlocks blocks{};
  uint32_t words[4 * kMaxWordBlocks];
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
      const int64_t end = std::min(held + per_row - i, kMaxWordBlocks);
      for (; held < end; ++held, ++i) {
        blocks.row[held] = first.row + static_cast<uint64_t>(r);
        blocks.block[held] = static_cast<uint64_t>(i);
      }
      if (held == kMaxWordBlocks)
        flush();
    }
  flush();
}

// The scalars of the rows of a tile.
template <class T> struct Samples {
  T kappa[kTile];
  T p[kTile], s[kTile];                      // see SampleCoefficients in math/types.h
  T length[kTile], removed[kTile];           // |mu|; g' = g - removed mu
  T exponential[kTile], exponential2[kTile]; // the first proposal's, see ProposalNoise
  SampleCoefficients<T> coefficients[kTile];
};

// a . mu, |mu|^2 and |a|^2
template <class T> HD_INLINE void dots(const T *a, const T *mu, int64_t d, T (&sums)[3]) {
  row_sums<T, 3>(d, sums, [=](int64_t i, T(&out)[3]) __attribute__((always_inline)) {
    out[0] = a[i] * mu[i];
    out[1] = mu[i] * mu[i];
    out[2] = a[i] * a[i];
  });
}

// Projects each row of normals g, [n, width], on mu. `combine` removes the component along mu
// later: |g'|^2 = |g|^2 - p^2 needs no g'. In many dimensions that difference is never small beside
// |g|^2 (it is below |g|^2/100 with a probability of 1e-15 in d = 16).
template <class T>
HD_INLINE void project_wide(const T *g, int64_t width, const T *const *mu, int64_t n, int64_t d,
                            Samples<T> &s) {
  for (int64_t r = 0; r < n; ++r) {
    T sums[3];
    dots(g + r * width, mu[r], d, sums);
    s.length[r] = std::sqrt(sums[1]);
    s.p[r] = sums[0] / s.length[r];
    s.s[r] = T(0.5) * (sums[2] - s.p[r] * s.p[r]);
    s.removed[r] = sums[0] / sums[1];
  }
}

// Projects each row in few dimensions, where that difference can be small: the component along mu
// is removed twice.
template <class T>
HD_INLINE void project_narrow(T *g, int64_t width, const T *const *mu, int64_t n, int64_t d,
                              Samples<T> &s) {
  Columns<T> by_g, by_mu;
  by_mu.read(mu, n, d);
  T dot[kTile] = {}, again[kTile] = {}, mu_mu[kTile] = {}, squared[kTile] = {};
  for (int64_t r = 0; r < n; ++r)
    for (int64_t i = 0; i < d; ++i)
      by_g.at[i][r] = g[r * width + i];
  for (int64_t i = 0; i < d; ++i)
    for (int64_t r = 0; r < n; ++r) {
      dot[r] += by_g.at[i][r] * by_mu.at[i][r];
      mu_mu[r] += by_mu.at[i][r] * by_mu.at[i][r];
    }
  for (int64_t r = 0; r < n; ++r) {
    s.length[r] = std::sqrt(mu_mu[r]);
    s.p[r] = dot[r] / s.length[r];
    s.removed[r] = dot[r] / mu_mu[r];
  }
  for (int64_t i = 0; i < d; ++i)
    for (int64_t r = 0; r < n; ++r) {
      by_g.at[i][r] -= s.removed[r] * by_mu.at[i][r];
      again[r] += by_g.at[i][r] * by_mu.at[i][r];
    }
  for (int64_t r = 0; r < n; ++r)
    again[r] /= mu_mu[r];
  for (int64_t i = 0; i < d; ++i)
    for (int64_t r = 0; r < n; ++r) {
      by_g.at[i][r] -= again[r] * by_mu.at[i][r];
      squared[r] += by_g.at[i][r] * by_g.at[i][r];
    }
  for (int64_t r = 0; r < n; ++r) {
    s.s[r] = T(0.5) * squared[r];
    s.removed[r] = 0;
    for (int64_t i = 0; i < d; ++i)
      g[r * width + i] = by_g.at[i][r];
  }
}

template <class T>
SIMD_CLONES void project(T *g, int64_t width, const T *const *mu, int64_t n, int64_t d,
                         Samples<T> &s) {
  static_assert(kColumnwiseBelow == kReorthogonalised);
  if (d < kColumnwiseBelow)
    project_narrow(g, width, mu, n, d, s);
  else
    project_wide(g, width, mu, n, d, s);
}

// The exponentials of the first proposal of each row, from its words [n, 4].
template <class T>
SIMD_CLONES void first_exponentials(const uint32_t *words, int64_t n, Samples<T> &s) {
  for (int64_t r = 0; r < n; ++r)
    minus_two_logs(words_at(words, r), s.exponential[r], s.exponential2[r]);
}

// The noise of the proposals of a row. The exponentials of the first one are computed beforehand.
template <class T> struct PreparedNoise {
  ProposalNoise<T> noise;
  T first, second;

  T normal(uint32_t trial) const { return noise.normal(trial); }
  void minus_two_logs(uint32_t trial, T &a, T &b) const {
    if (trial > 0)
      return noise.minus_two_logs(trial, a, b);
    a = first;
    b = second;
  }
};

template <class Family, class T>
SIMD_CLONES FLATTEN void tile_coefficients(const RowStream &first, const Dim<T> &dim, int64_t n,
                                           Samples<T> &s) {
  for (int64_t r = 0; r < n; ++r) {
    const RowStream stream{first.seed, first.row + static_cast<uint64_t>(r)};
    s.coefficients[r] = sample_coefficients<Family>(
        s.kappa[r], dim, s.p[r], s.s[r],
        PreparedNoise<T>{{stream}, s.exponential[r], s.exponential2[r]});
  }
}

// out[r] = t m + r g' for each row; mu and out are [n] pointers to [d], g is [n, width].
template <class T>
SIMD_CLONES void combine(const Samples<T> &s, const T *const *mu, const T *g, int64_t width,
                         int64_t n, int64_t d, T *const *out) {
  for (int64_t r = 0; r < n; ++r, g += width) {
    const T b = s.coefficients[r].r, a = s.coefficients[r].t / s.length[r] - b * s.removed[r];
    const T *m = mu[r];
    T *x = out[r];
    for (int64_t i = 0; i < d; ++i)
      x[i] = a * m[i] + b * g[i];
  }
}

template <class Family, class T> void forward(const RSample<T> &args) {
  using Args = RSample<T>;
  const auto &operands = args.operands;
  const int64_t d = operands.rows.d, width = padded<T>(d), most = tile_rows(width);
  parallel_for(operands.rows.n, row_grain(d, 4, kForwardRowCost), [&](int64_t begin, int64_t end) {
    std::vector<T> normals(static_cast<size_t>(most * width));
    T *g = normals.data();
    TileRows<T> mu_rows, sample_rows;
    Samples<T> s;
    WordBlocks proposals{};
    std::fill_n(proposals.block, kMaxWordBlocks, 1); // see ProposalNoise
    uint32_t words[4 * kMaxWordBlocks];
    for (int64_t first = begin; first < end; first += most) {
      const int64_t n = std::min(most, end - first);
      const RowStream stream = args.stream(first);
      fill_normals(stream, n, d, g);
      const T *const *mu = read_rows(operands, Args::kMu, first, n, mu_rows);
      project(g, width, mu, n, d, s);
      read_concentrations<Family>(operands, Args::kKappa, first, n, s.kappa);
      for (int64_t r = 0; r < n; ++r)
        proposals.row[r] = stream.row + static_cast<uint64_t>(r);
      block_words(stream.seed, ProposalNoise<T>::number(0), proposals, n, words);
      first_exponentials(words, n, s);
      tile_coefficients<Family>(stream, args.dim, n, s);
      combine(s, mu, g, width, n, d, result_rows(operands, Args::kSample, first, n, sample_rows));
    }
  });
}

template <class T>
SIMD_CLONES void backward_sums(const T *const *grad, const T *const *x, const T *const *mu,
                               int64_t n, int64_t d, SampleGradient<T> *g) {
  if (d < kColumnwiseBelow) {
    Columns<T> by_grad, by_x, by_mu;
    by_grad.read(grad, n, d);
    by_x.read(x, n, d);
    by_mu.read(mu, n, d);
    T sums[kSampleSums][kTile] = {};
    for (int64_t i = 0; i < d; ++i)
      for (int64_t r = 0; r < n; ++r) {
        T terms[kSampleSums];
        sample_terms(by_grad.at[i][r], by_x.at[i][r], by_mu.at[i][r], terms);
        for (int k = 0; k < kSampleSums; ++k)
          sums[k][r] += terms[k];
      }
    for (int64_t r = 0; r < n; ++r) {
      T of_one_row[kSampleSums];
      for (int k = 0; k < kSampleSums; ++k)
        of_one_row[k] = sums[k][r];
      g[r] = SampleGradient<T>(of_one_row);
    }
    return;
  }
  for (int64_t r = 0; r < n; ++r) {
    const T *gr = grad[r], *xr = x[r], *mur = mu[r];
    T sums[kSampleSums];
    row_sums<T, kSampleSums>(d, sums,
                             [=](int64_t i, T(&out)[kSampleSums]) __attribute__((always_inline)) {
                               sample_terms(gr[i], xr[i], mur[i], out);
                             });
    g[r] = SampleGradient<T>(sums);
  }
}

// Returns the rows of the upstream gradient. In sum().backward() each is one value, repeated.
template <class T>
const T *const *grad_rows(const RSampleBackward<T> &args, int64_t first, int64_t n,
                          TileRows<T> &tile) {
  using Args = RSampleBackward<T>;
  const int64_t d = args.operands.rows.d;
  if (!args.uniform_grad)
    return read_rows(args.operands, Args::kGrad, first, n, tile);
  tile.put_in_buffer(n, d);
  for (int64_t r = 0; r < n; ++r)
    std::fill_n(tile.row[r], d, *args.operands.row(Args::kGrad, first + r));
  return tile.row;
}

template <class Family, class T> void backward(const RSampleBackward<T> &args) {
  using Args = RSampleBackward<T>;
  const auto &operands = args.operands;
  const int64_t d = operands.rows.d;
  const auto tile = [&](int64_t first, int64_t n, T *const *grad_mu, Scratch<T> &scratch) {
    const T *const *grad = grad_rows(args, first, n, scratch.in[0]);
    const T *const *x = read_rows(operands, Args::kSample, first, n, scratch.in[1]);
    const T *const *mu = read_rows(operands, Args::kMu, first, n, scratch.in[2]);
    SampleGradient<T> g[kTile];
    HalfAngle<T> half_angle[kTile];
    T kappa[kTile], kappa_grad[kTile];
    read_concentrations<Family>(operands, Args::kKappa, first, n, kappa);
    backward_sums(grad, x, mu, n, d, g);
    for (int64_t r = 0; r < n; ++r)
      g[r].spread_nan(kappa[r]);
    if (grad_mu)
      gradients(g, grad, x, n, d, grad_mu);
    if (!operands.needs(Args::kGradKappa))
      return;
    for (int64_t r = 0; r < n; ++r)
      half_angle[r] = g[r].half_angle;
    OverRows<Family>::implicit_gradient(args.dim, n, kappa, half_angle, kappa_grad);
    for (int64_t r = 0; r < n; ++r)
      kappa_grad[r] *= g[r].outward;
    write_scalars(operands, Args::kGradKappa, first, n, kappa_grad);
  };
  for_each_tile(operands, args.sums, row_grain(d, 1, kBackwardRowCost), tile);
}

void rsample_cpu(StableIValue *stack, uint64_t, uint64_t) {
  unpack_rsample(stack, [](auto family, const auto &args) { forward<decltype(family)>(args); });
}

void rsample_backward_cpu(StableIValue *stack, uint64_t, uint64_t) {
  unpack_rsample_backward(stack,
                          [](auto family, const auto &args) { backward<decltype(family)>(args); });
}

const int registered = [] {
  Implementations("CPU").op("rsample", rsample_cpu).op("rsample_backward", rsample_backward_cpu);
  return 0;
}();
} // namespace
