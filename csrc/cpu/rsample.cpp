// rsample and its gradients. A sample is x = t mu + r g' (SampleCoefficients in math/types.h),
// without a division by a norm that can vanish, a reflection or a clamp (docs/numerics.md#sampler).
#include "../rsample.h"
#include "../registration.h"
#include "angles.h"
#include "family_rows.h"
#include "normals.h"
#include "reduce.h"

namespace {
using namespace spherical;

constexpr int64_t kBackwardRowCost = 256, kForwardRowCost = 256; // see row_grain

// Elements of a sample that may lie outside of the second cache.
constexpr int64_t kFetchedFrom = 1 << 18;

// The scalars of the rows of a tile.
template <class T> struct Samples : FirstProposals<T> {
  T kappa[kTile];
  T length[kTile], removed[kTile]; // |mu|; g' = g - removed mu
  SampleCoefficients<T> coefficients[kTile];
  bool done[kTile];                  // whether they are set
  T along_mu[kTile], along_g[kTile]; // the sample is along_mu mu + along_g g
};

// Projects each row of normals on mu. set_coefficients removes the component along mu later:
// |g'|^2 = |g|^2 - p^2 needs no g'. In many dimensions that difference is never small beside |g|^2
// (it is below |g|^2/100 with a probability of 1e-15 in d = 16).
template <class T>
SIMD_CLONES void project_wide(const T *const *g, const T *const *mu, int64_t n, int64_t d,
                              Samples<T> &s) {
  const T *const *const rows[2] = {g, mu};
  double sums[kAngleProducts][kTile];
  product_sums(rows, n, d, sums);
  for (int64_t r = 0; r < n; ++r) {
    const double length = std::sqrt(sums[kMuMu][r]), p = sums[kXMu][r] / length;
    s.length[r] = static_cast<T>(length);
    s.p[r] = static_cast<T>(p);
    s.s[r] = static_cast<T>(0.5 * (sums[kXX][r] - p * p));
    s.removed[r] = static_cast<T>(sums[kXMu][r] / sums[kMuMu][r]);
  }
}

// Projects each row in few dimensions, where that difference can be small: the component along mu is
// removed twice, from the normals by columns.
template <class T>
SIMD_CLONES void project_narrow(Columns<T> &g, const Columns<T> &mu, int64_t n, int64_t d,
                                Samples<T> &s) {
  T dot[kTile] = {}, again[kTile] = {}, mu_mu[kTile] = {}, squared[kTile] = {};
  for (int64_t i = 0; i < d; ++i)
    for (int64_t r = 0; r < n; ++r) {
      dot[r] += g.at[i][r] * mu.at[i][r];
      mu_mu[r] += mu.at[i][r] * mu.at[i][r];
    }
  for (int64_t r = 0; r < n; ++r) {
    s.length[r] = std::sqrt(mu_mu[r]);
    s.p[r] = dot[r] / s.length[r];
    s.removed[r] = dot[r] / mu_mu[r];
  }
  for (int64_t i = 0; i < d; ++i)
    for (int64_t r = 0; r < n; ++r) {
      g.at[i][r] -= s.removed[r] * mu.at[i][r];
      again[r] += g.at[i][r] * mu.at[i][r];
    }
  for (int64_t r = 0; r < n; ++r)
    again[r] /= mu_mu[r];
  for (int64_t i = 0; i < d; ++i)
    for (int64_t r = 0; r < n; ++r) {
      g.at[i][r] -= again[r] * mu.at[i][r];
      squared[r] += g.at[i][r] * g.at[i][r];
    }
  for (int64_t r = 0; r < n; ++r) {
    s.s[r] = T(0.5) * squared[r];
    s.removed[r] = 0;
  }
}

// Makes the projected normals the samples.
template <class T>
SIMD_CLONES void combine_columns(const Samples<T> &s, const Columns<T> &mu, int64_t n, int64_t d,
                                 Columns<T> &g) {
  for (int64_t i = 0; i < d; ++i)
    for (int64_t r = 0; r < n; ++r)
      g.at[i][r] = s.along_mu[r] * mu.at[i][r] + s.along_g[r] * g.at[i][r];
}

// The exponentials of the first proposal of each row, from its words [n, 4].
template <class T>
SIMD_CLONES void first_exponentials(const uint32_t *words, int64_t n, Samples<T> &s) {
  for (int64_t r = 0; r < n; ++r)
    minus_two_logs(words + 4 * r, s.minus_two_log[r], s.minus_two_log2[r]);
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
    if (s.done[r])
      continue;
    const RowStream stream{first.seed, first.row + static_cast<uint64_t>(r)};
    s.coefficients[r] = sample_coefficients<Family>(
        s.kappa[r], dim, s.p[r], s.s[r],
        PreparedNoise<T>{{stream}, s.minus_two_log[r], s.minus_two_log2[r]});
  }
}

template <class T> SIMD_CLONES void set_coefficients(int64_t n, Samples<T> &s) {
  for (int64_t r = 0; r < n; ++r) {
    s.along_g[r] = s.coefficients[r].r;
    s.along_mu[r] = s.coefficients[r].t / s.length[r] - s.along_g[r] * s.removed[r];
  }
}

// Asks memory for the n rows of a tile, for a part of them at each call.
template <class T> struct FetchRows {
  const T *const *rows;
  const int64_t n, d;
  int64_t r = 0, i = 0; // the next element

  void operator()(int64_t elements) {
    constexpr int64_t line = 64 / sizeof(T);
    for (; r < n && elements > 0; elements -= line) {
      __builtin_prefetch(rows[r] + i);
      i += line;
      if (i >= d) {
        i = 0;
        ++r;
      }
    }
  }
};

// A family, as rsample calls it: the loops of its functions over the rows of a tile. What calls them
// is compiled once for all families.
template <class T> struct RSampleFamily {
  T upper_bound;
  void (*sample_at_once)(const Dim<T> &, int64_t, const T *, const FirstProposals<T> &,
                         SampleCoefficients<T> *, bool *);
  void (*tile_coefficients)(const RowStream &, const Dim<T> &, int64_t, Samples<T> &);
};
template <class Family, class T> const RSampleFamily<T> &functions_of(Family, const RSample<T> &) {
  static constexpr RSampleFamily<T> functions{
      T(Family::upper_bound), OverRows<Family>::sample_at_once, tile_coefficients<Family, T>};
  return functions;
}

template <class T> void forward(const RSampleFamily<T> &family, const RSample<T> &args) {
  using Args = RSample<T>;
  const auto &operands = args.operands;
  const int64_t d = operands.rows.d, width = padded<T>(d), most = tile_rows(width);
  // Memory answers while the normals are computed.
  const bool fetches = operands.rows.n * d >= kFetchedFrom;
  const bool by_columns = d < kColumnwiseBelow;
  parallel_for(operands.rows.n, row_grain(d, 4, kForwardRowCost), [&](int64_t begin, int64_t end) {
    std::vector<T> normals(static_cast<size_t>(most * width));
    T *g = normals.data();
    const T *g_rows[kTile];
    for (int64_t r = 0; r < most; ++r)
      g_rows[r] = g + r * width;
    TileRows<T> mu_rows, sample_rows;
    Columns<T> g_columns, mu_columns;
    Samples<T> s;
    WordBlocks proposals{};
    std::fill_n(proposals.block, kMaxWordBlocks, 1); // see ProposalNoise
    uint32_t words[4 * kMaxWordBlocks];
    for (int64_t first = begin; first < end; first += most) {
      const int64_t n = std::min(most, end - first);
      const RowStream stream = args.stream(first);
      const T *const *mu = read_rows(operands, Args::kMu, first, n, mu_rows);
      T *const *samples = result_rows(operands, Args::kSample, first, n, sample_rows);
      FetchRows<T> fetch_mu{mu, fetches ? n : 0, d}, fetch_samples{samples, fetches ? n : 0, d};
      fill_normals(stream, n, d, g, [&](int64_t elements) {
        fetch_mu(elements);
        fetch_samples(elements);
      });
      static_assert(kColumnwiseBelow == kReorthogonalised);
      if (by_columns) {
        g_columns.read(g_rows, n, d);
        mu_columns.read(mu, n, d);
        project_narrow(g_columns, mu_columns, n, d, s);
      } else {
        project_wide(g_rows, mu, n, d, s);
      }
      read_concentrations(operands, Args::kKappa, first, n, family.upper_bound, s.kappa);
      for (int64_t r = 0; r < n; ++r)
        proposals.row[r] = stream.row + static_cast<uint64_t>(r);
      block_words(stream.seed, ProposalNoise<T>::number(0), proposals, n, words);
      first_exponentials(words, n, s);
      family.sample_at_once(args.dim, n, s.kappa, s, s.coefficients, s.done);
      family.tile_coefficients(stream, args.dim, n, s);
      set_coefficients(n, s);
      if (by_columns) {
        combine_columns(s, mu_columns, n, d, g_columns);
        g_columns.write(samples, n, d);
      } else {
        combine_rows(s.along_mu, mu, s.along_g, g_rows, n, d, Places<T>{samples, false});
      }
      if (operands.needs(Args::kRounded))
        for (int64_t r = 0; r < n; ++r)
          write_row(operands, Args::kRounded, first + r, samples[r]);
    }
  });
}

// SampleGradient by columns, for the rows of a block.
template <class T> struct SampleGradients : Scratch<T> {
  double along_grad[kTile], along_x[kTile], outward[kTile], sin2[kTile], cos2[kTile];
  int64_t again[kTile]; // whether the half angle cancels
  T kappa[kTile];
};

// Sets those of the n rows of a tile, which are those from row `at` on of the block.
template <class T>
SIMD_CLONES void set_gradients(const double (&sums)[kSampleSums][kTile], int64_t at, int64_t n,
                               SampleGradients<T> &s) {
  for (int64_t r = 0; r < n; ++r) {
    double of_row[kSampleSums];
    UNROLL
    for (int k = 0; k < kSampleSums; ++k)
      of_row[k] = sums[k][r];
    const SampleGradient<double> g(of_row);
    s.along_grad[at + r] = g.along_grad;
    s.along_x[at + r] = g.along_x;
    s.outward[at + r] = g.outward;
    s.sin2[at + r] = g.half_angle.sin2;
    s.cos2[at + r] = g.half_angle.cos2;
    s.again[at + r] = Chords<double>(of_row).cancels() ? 1 : 0;
  }
}

template <class T>
void measure(const T *const *grad, const T *const *x, const T *const *mu, int64_t at, int64_t n,
             int64_t d, SampleGradients<T> &s) {
  double sums[kSampleSums][kTile];
  sample_sums(grad, x, mu, n, d, sums);
  set_gradients(sums, at, n, s);
  for (int64_t r = 0; r < n; ++r)
    if (s.again[at + r] || std::min(s.sin2[at + r], s.cos2[at + r]) < kNearest<T>) {
      const T ratio = ratio_for(chords_of_row(sums, r), x[r], mu[r], d);
      const auto c = scaled_chords<double>(ratio, x[r], mu[r], d).half_angle();
      s.sin2[at + r] = c.sin2;
      s.cos2[at + r] = c.cos2;
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

// A family, as rsample_backward calls it.
template <class T> struct RSampleBackwardFamily {
  T upper_bound;
  void (*implicit_gradient)(const Dim<T> &, int64_t, const T *, const HalfAngle<T> *, T *);
};
template <class Family, class T>
const RSampleBackwardFamily<T> &functions_of(Family, const RSampleBackward<T> &) {
  static constexpr RSampleBackwardFamily<T> functions{T(Family::upper_bound),
                                                      OverRows<Family>::implicit_gradient};
  return functions;
}

template <class T>
void backward(const RSampleBackwardFamily<T> &family, const RSampleBackward<T> &args) {
  using Args = RSampleBackward<T>;
  const auto &operands = args.operands;
  const int64_t d = operands.rows.d;
  const auto tile = [&](int64_t first, int64_t n, int64_t at, const Places<T> &grad_mu,
                        SampleGradients<T> &s) {
    const T *const *grad = grad_rows(args, first, n, s.in[0]);
    const T *const *x = read_rows(operands, Args::kSample, first, n, s.in[1]);
    const T *const *mu = read_rows(operands, Args::kMu, first, n, s.in[2]);
    measure(grad, x, mu, at, n, d, s);
    read_concentrations(operands, Args::kKappa, first, n, family.upper_bound, s.kappa + at);
    for (int64_t r = at; r < at + n; ++r) // NaN where kappa is, as in SampleGradient::spread_nan
      s.along_grad[r] += 0.0 * static_cast<double>(s.kappa[r]);
    if (grad_mu.row)
      combine_rows(s.along_grad + at, grad, s.along_x + at, x, n, d, grad_mu);
  };
  const auto scalars = [&](int64_t first, int64_t n, SampleGradients<T> &s) {
    if (!operands.needs(Args::kGradKappa))
      return;
    T kappa_grad[kTile];
    HalfAngle<T> half_angle[kTile];
    for (int64_t r = 0; r < n; ++r)
      half_angle[r] = {static_cast<T>(s.sin2[r]), static_cast<T>(s.cos2[r])};
    family.implicit_gradient(args.dim, n, s.kappa, half_angle, kappa_grad);
    for (int64_t r = 0; r < n; ++r)
      kappa_grad[r] = static_cast<T>(s.outward[r] * kappa_grad[r]);
    write_scalars(operands, Args::kGradKappa, first, n, kappa_grad);
  };
  const bool reads_again = operands.needs(Args::kGradMu) || args.uniform_grad;
  for_each_tile<SampleGradients<T>>(operands, args.sums, tile_rows(operands, reads_again),
                                    row_grain(d, 1, kBackwardRowCost), tile, scalars);
}

template <bool rounds> void rsample_cpu(StableIValue *stack, uint64_t, uint64_t) {
  unpack_rsample(stack, rounds,
                 [](auto family, const auto &args) { forward(functions_of(family, args), args); });
}

void rsample_backward_cpu(StableIValue *stack, uint64_t, uint64_t) {
  unpack_rsample_backward(
      stack, [](auto family, const auto &args) { backward(functions_of(family, args), args); });
}

const int registered = [] {
  Implementations("CPU")
      .op("rsample", rsample_cpu<false>)
      .op("rsample_rounded", rsample_cpu<true>)
      .op("rsample_backward", rsample_backward_cpu);
  return 0;
}();
} // namespace
