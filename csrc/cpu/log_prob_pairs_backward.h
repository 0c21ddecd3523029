// The gradients of log_prob of all pairs of a value and a law, by products of matrices. With
//   W = upstream (d log p/dt)/(|x| |mu|)
// of all pairs, those of the vectors are W mu and W^T x, less their parts along x and mu. Pairs near
// a pole, where such a part is most of the product, are done as rows.
#pragma once
#include "../log_prob.h"
#include "family_rows.h"
#include "pair_tiles.h"
#include "reduce.h"

namespace spherical {

// The least sin2 and cos2 of a pair that is no row: its part along x is up to 8 times its gradient.
constexpr double kNearPoleInDouble = 0x1p-8;
// The same for half angles from products in float, which have a relative error of 8e-7 there.
constexpr double kNearPoleInFloat = 0x1p-4;
constexpr int64_t kMostColumns = 1024;       // that are packed at a time
constexpr int64_t kMostInPlace = 256;        // columns of W whose products read rows in place
constexpr int64_t kWeightElements = 1 << 20; // of W that are kept at a time
constexpr int64_t kBandElements = 1 << 18;   // of the rows that belong to them

template <class T> struct GradientTile : PairTile {
  T upstream[room], weight[room], kappa_grad[room];
};

// A pair that is done as a row.
template <class T> struct NearPair {
  int64_t row, column;
  T kappa, upstream, at_mode;
};

// Sets the weights of the pairs of a tile; 0 where sin2 or cos2 is below `limit` or NaN. Returns the
// number of these pairs.
template <class Family, class T>
SIMD_CLONES FLATTEN int64_t set_weights(const Dim<T> &dim, int64_t n, double limit,
                                        GradientTile<T> &s) {
  int32_t near = 0;
  for (int64_t i = 0; i < n; ++i) {
    const double sin2 = s.sin2[i], cos2 = 1 - sin2;
    const bool kept = sin2 >= limit && cos2 >= limit;
    const HalfAngle<T> at{static_cast<T>(kept ? sin2 : 0.5), static_cast<T>(kept ? cos2 : 0.5)};
    const T slope = Family::log_prob_ratio_dt(static_cast<T>(s.kappa[i]), dim, at);
    const double weight = double{s.upstream[i]} * slope * s.inverse[i];
    s.weight[i] = kept ? static_cast<T>(weight) : T(0);
    near += !kept;
  }
  return near;
}

template <class Family, class T>
SIMD_CLONES FLATTEN void pair_kappa_gradients(const Dim<T> &dim, int64_t n, GradientTile<T> &s) {
  for (int64_t i = 0; i < n; ++i) {
    const T sin2 = static_cast<T>(s.sin2[i]), cos2 = static_cast<T>(1 - s.sin2[i]);
    s.kappa_grad[i] =
        density_gradient_kappa<Family>(s.upstream[i], static_cast<T>(s.kappa[i]), dim,
                                       static_cast<T>(s.at_mode[i]), HalfAngle<T>{sin2, cos2});
  }
}

// A family, as these loops call it. They are compiled once for all families.
template <class T> struct BackwardOfPairsFamily {
  T upper_bound;
  void (*log_prob_at_mode_dkappa)(const Dim<T> &, int64_t, const T *, T *);
  int64_t (*set_weights)(const Dim<T> &, int64_t, double, GradientTile<T> &);
  void (*set_pair_kappa_gradients)(const Dim<T> &, int64_t, GradientTile<T> &);
};
template <class Family, class T>
constexpr BackwardOfPairsFamily<T> kBackwardOfPairs{
    T(Family::upper_bound), OverRows<Family>::log_prob_at_mode_dkappa, set_weights<Family, T>,
    pair_kappa_gradients<Family, T>};

// out = sum less its part along x, or out + that.
template <class S, class T>
SIMD_CLONES void orthogonal_part(const S *sum, const T *x, double inverse_length, int64_t d,
                                 bool adds, T *out) {
  constexpr int64_t width = VectorOf<double>::width;
  Vector<double> partial[2] = {};
  double product = 0;
  int64_t i = 0;
  for (; i + 2 * width <= d; i += 2 * width)
    unrolled<2>([&](int v) __attribute__((always_inline)) {
      Vector<double> a, b;
      load_as(sum + i + v * width, a);
      load_as(x + i + v * width, b);
      partial[v] += a * b;
    });
  for (; i < d; ++i)
    product += double{sum[i]} * double{x[i]};
  product += sum_of_elements(partial[0] + partial[1]);
  const double ratio = product * inverse_length * inverse_length;
  if (adds)
    for (i = 0; i < d; ++i)
      out[i] = static_cast<T>(out[i] + (sum[i] - ratio * x[i]));
  else
    for (i = 0; i < d; ++i)
      out[i] = static_cast<T>(sum[i] - ratio * x[i]);
}

// The gradients for the product of two sides. again(x, mu, pair, of_mu, out) computes a pair as a
// row: it writes its gradient in mu or x to `out`, and returns that in kappa.
template <class T, class Again> class LogProbBackwardOfPairs {
public:
  using Args = LogProbBackward<T>;
  using Operands = decltype(Args::operands);

  LogProbBackwardOfPairs(const BackwardOfPairsFamily<T> &family, const Dim<T> &dim,
                         const Side<Operands> &rows, const Side<Operands> &columns,
                         const Again &again)
      : family(family), tiles(rows, columns, true), dim(dim), again(again), d(tiles.d),
        of_rows(gradient_of(rows)), of_columns(gradient_of(columns)),
        needs_rows(rows.operands.needs(of_rows)), needs_columns(rows.operands.needs(of_columns)),
        needs_kappa(rows.operands.needs(Args::kGradKappa)) {}

  void run() {
    // A gradient that is not stored as T cannot be added to.
    const bool in_one = needs_rows && !tiles.rows.operands.is_native(of_rows);
    const int64_t fit = std::min(kPackedElements / d, kMostColumns) / kPairColumns;
    const int64_t most = in_one ? tiles.groups : std::clamp<int64_t>(fit, 1, tiles.groups);
    for (int64_t first = 0; first < tiles.groups; first += most)
      column_chunk(first, std::min(tiles.groups - first, most));
  }

private:
  using Tiles = PairTiles<T, Operands, false>;
  using Near = std::vector<NearPair<T>>;

  // A pair that is done as a row.
  struct NearRow {
    TileRows<T> row, column;
    std::vector<T> gradient;

    T compute(const LogProbBackwardOfPairs &all, const NearPair<T> &pair, bool of_mu) {
      const Tiles &tiles = all.tiles;
      const T *const *x = read_rows(tiles.rows.operands, tiles.rows.vector, pair.row, 1, row);
      const T *const *mu =
          read_rows(tiles.columns.operands, tiles.columns.vector, pair.column, 1, column);
      if (tiles.rows.vector == Args::kMu)
        std::swap(x, mu);
      gradient.resize(static_cast<size_t>(all.d));
      return all.again(x, mu, pair, of_mu, gradient.data());
    }
  };

  struct Scratch {
    typename Tiles::Rows x;
    GradientTile<T> pairs;
    TileRows<T> gradients;
    NearRow near;
    std::vector<T> sums; // of the gradients of the rows, [kPairRows, d padded]
  };

  static int gradient_of(const Side<Operands> &side) {
    return side.vector + (Args::kGradValue - Args::kValue);
  }

  template <int64_t most>
  void read_laws(const Side<Operands> &side, int64_t first, int64_t n,
                 VectorScalars<most> &to) const {
    T kappa[kTile], at_mode[kTile];
    read_concentrations(side.operands, Args::kKappa, first, n, family.upper_bound, kappa);
    std::copy(kappa, kappa + n, to.kappa);
    std::fill_n(to.at_mode, n, 0.0);
    if (!needs_kappa)
      return;
    family.log_prob_at_mode_dkappa(dim, n, kappa, at_mode);
    std::copy(at_mode, at_mode + n, to.at_mode);
  }

  void column_chunk(int64_t first, int64_t some) {
    const auto set_laws = [this](const auto &side, int64_t begin, int64_t n, auto &to) {
      read_laws(side, begin, n, to);
    };
    const int64_t n = tiles.rows.size(), begin = first * kPairColumns;
    columns = std::min(some * kPairColumns, tiles.columns.size() - begin);
    tiles.pack(first, some, set_laws);
    if (needs_rows) {
      column_terms.reserve(columns, d);
      parallel_for(columns, row_grain(d, 2, 0), [&](int64_t from, int64_t to) {
        TileRows<T> tile;
        for (int64_t c = from; c < to; ++c)
          column_terms.set(c, *read_column(begin + c, 1, tile), d);
      });
    }
    totals.assign(static_cast<size_t>(needs_columns ? columns * d : 0), 0.0);
    const int64_t fit = std::min(kWeightElements / columns, kBandElements / d);
    const int64_t band = std::max<int64_t>(1, fit / kPairRows) * kPairRows;
    weights.reset(new T[static_cast<size_t>(std::min(n, band) * columns)]);
    for (int64_t from = 0; from < n; from += band)
      row_band(first, some, from, std::min(band, n - from), set_laws);
    if (needs_columns)
      parallel_for(columns, row_grain(d, 4, 0), [&](int64_t from, int64_t to) {
        TileRows<T> tile;
        std::vector<T> row(static_cast<size_t>(d));
        for (int64_t c = from; c < to; ++c) {
          const ColumnScalars &y = tiles.scalars[static_cast<size_t>(c / kPairColumns)];
          orthogonal_part(totals.data() + c * d, *read_column(begin + c, 1, tile),
                          y.inverse_length[c % kPairColumns], d, false, row.data());
          write_row(tiles.columns.operands, of_columns, begin + c, row.data());
        }
      });
  }

  template <class SetLaws>
  void row_band(int64_t first, int64_t some, int64_t begin, int64_t n, const SetLaws &set_laws) {
    const int64_t count = (n + kPairRows - 1) / kPairRows;
    if (needs_columns) {
      const int k = tiles.rows.vector;
      const bool in_place = tiles.rows.operands.is_native(k) && columns <= kMostInPlace;
      const int64_t apart = in_place ? tiles.rows.stride(k) : 0;
      if (apart == 0 ||
          !row_terms.read_in_place(
              static_cast<const T *>(tiles.rows.operands.inputs[k]) + begin * apart, apart, d))
        row_terms.reserve(n, d);
    }
    std::vector<Near> near(static_cast<size_t>(count));
    const int64_t cost = kPairRows * columns * (3 * d + 64); // in units of 0.03 ns
    parallel_for(count, std::max<int64_t>(1, 1000000 / cost), [&](int64_t from, int64_t to) {
      const auto s = std::make_unique<Scratch>();
      for (int64_t i = from; i < to; ++i) {
        tiles.read(begin + i * kPairRows, s->x, set_laws);
        row_tile(first, some, i * kPairRows, near[static_cast<size_t>(i)], *s);
      }
    });
    if (!needs_columns)
      return;
    add_columns(n);
    Near all;
    for (const Near &some_pairs : near)
      all.insert(all.end(), some_pairs.begin(), some_pairs.end());
    add_near_to_columns(first * kPairColumns, all);
  }

  // A tile whose first row is row `at` of the band.
  void row_tile(int64_t first, int64_t some, int64_t at, Near &near, Scratch &s) {
    const typename Tiles::Rows &x = s.x;
    for (int64_t g = 0; g < some; ++g)
      set_pairs(first, g, at, near, s);
    if (needs_columns && !row_terms.in_place)
      for (int64_t r = 0; r < x.n; ++r)
        row_terms.set(at + r, x.row[r], d);
    const int64_t stride = column_terms.columns;
    if (needs_rows) {
      s.sums.resize(static_cast<size_t>(kPairRows * stride));
      const T *row[kPairRows];
      for (int64_t r = 0; r < kPairRows; ++r)
        row[r] = weights.get() + (at + std::min(r, x.n - 1)) * columns;
      column_terms.sums.compute(row, 1, whole(x.n), column_terms.panels.get(), stride, columns, 0,
                                s.sums.data(), nullptr);
    }
    for (const NearPair<T> &pair : near) {
      const T kappa_grad = s.near.compute(*this, pair, of_rows == Args::kGradMu);
      if (needs_kappa)
        *kappa_grad_at(pair.row, pair.column) = kappa_grad;
      if (needs_rows)
        add_rows(s.near.gradient.data(), 1, d, s.sums.data() + (pair.row - x.begin) * stride);
    }
    if (!needs_rows)
      return;
    T *const *out = result_rows(tiles.rows.operands, of_rows, x.begin, x.n, s.gradients);
    for (int64_t r = 0; r < x.n; ++r)
      orthogonal_part(s.sums.data() + r * stride, x.row[r], x.scalars.inverse_length[r], d,
                      first > 0, out[r]);
    finish_rows(tiles.rows.operands, of_rows, x.begin, x.n, s.gradients);
  }

  // Sets the weights of the tile with group g, and writes its gradients in kappa.
  void set_pairs(int64_t first, int64_t g, int64_t at, Near &near, Scratch &scratch) {
    typename Tiles::Rows &x = scratch.x;
    GradientTile<T> &s = scratch.pairs;
    const ColumnScalars &y = tiles.scalars[static_cast<size_t>(g)];
    const Operands &operands = tiles.rows.operands;
    const int64_t m = tiles.count(first + g), begin = (first + g) * kPairColumns;
    read_pairs(
        static_cast<const T *>(operands.inputs[Args::kGrad]) + offset(Args::kGrad, x.begin, begin),
        tiles.rows.stride(Args::kGrad), tiles.columns.stride(Args::kGrad), x.n, m, s.upstream);
    spread_laws(x.n, m, tiles.rows.has_kappa, x.scalars, y, s);
    int64_t count = 1;
    if (tiles.in_float) {
      tiles.set_half_angles(x, g, true, s);
      count = family.set_weights(dim, x.n * m, kNearPoleInFloat, s);
    }
    if (count > 0) {
      tiles.set_half_angles(x, g, false, s);
      count = family.set_weights(dim, x.n * m, kNearPoleInDouble, s);
    }
    write_pairs(s.weight, x.n, m, weights.get() + at * columns + g * kPairColumns, columns, 1);
    if (needs_kappa) {
      family.set_pair_kappa_gradients(dim, x.n * m, s);
      write_pairs(s.kappa_grad, x.n, m, kappa_grad_at(x.begin, begin),
                  tiles.rows.stride(Args::kGradKappa), tiles.columns.stride(Args::kGradKappa));
    }
    for (int64_t i = 0; count > 0 && i < x.n * m; ++i)
      if (!(s.sin2[i] >= kNearPoleInDouble && 1 - s.sin2[i] >= kNearPoleInDouble))
        near.push_back({x.begin + i / m, begin + i % m, static_cast<T>(s.kappa[i]), s.upstream[i],
                        static_cast<T>(s.at_mode[i])});
  }

  // totals += W^T x for a band of n rows.
  void add_columns(int64_t n) {
    const int64_t panel = 2 * row_terms.sums.width, padded = row_terms.columns;
    const int64_t panels = (padded + panel - 1) / panel;
    const int64_t blocks = (columns + kRowsAtOnce - 1) / kRowsAtOnce;
    const int64_t cost = kRowsAtOnce * panel * n; // in units of 0.03 ns
    parallel_for(panels * blocks, std::max<int64_t>(1, 1000000 / cost),
                 [&](int64_t from, int64_t to) {
                   for (int64_t item = from; item < to; ++item)
                     add_block(n, item % blocks * kRowsAtOnce, item / blocks * panel);
                 });
  }
  void add_block(int64_t n, int64_t column, int64_t element) {
    const int64_t lanes = std::min(2 * row_terms.sums.width, row_terms.columns - element);
    const T *row[kRowsAtOnce];
    for (int64_t r = 0; r < kRowsAtOnce; ++r)
      row[r] = weights.get() + std::min(column + r, columns - 1);
    double sums[kRowsAtOnce * 2 * PairSums<T, false>::widest];
    row_terms.sums.compute(row, columns, kRowsAtOnce, row_terms.panel(element), lanes, n,
                           row_terms.apart, sums, nullptr);
    for (int64_t r = 0; r < std::min(kRowsAtOnce, columns - column); ++r)
      for (int64_t l = 0; l < std::min(lanes, d - element); ++l)
        totals[static_cast<size_t>((column + r) * d + element + l)] += sums[r * lanes + l];
  }

  // Adds the pairs of a band that are done as rows to totals.
  void add_near_to_columns(int64_t begin, Near &near) {
    std::stable_sort(near.begin(), near.end(), [](const NearPair<T> &a, const NearPair<T> &b) {
      return a.column < b.column;
    });
    parallel_for(near.empty() ? 0 : columns, 1, [&](int64_t from, int64_t to) {
      NearRow row;
      auto pair = std::lower_bound(
          near.begin(), near.end(), begin + from,
          [](const NearPair<T> &pair, int64_t column) { return pair.column < column; });
      for (; pair != near.end() && pair->column < begin + to; ++pair) {
        row.compute(*this, *pair, of_columns == Args::kGradMu);
        add_rows(row.gradient.data(), 1, d, totals.data() + (pair->column - begin) * d);
      }
    });
  }

  int64_t offset(int k, int64_t row, int64_t column) const {
    return row * tiles.rows.stride(k) + column * tiles.columns.stride(k);
  }
  T *kappa_grad_at(int64_t row, int64_t column) const {
    return static_cast<T *>(tiles.rows.operands.results[Args::kGradKappa - Args::kGradValue]) +
           offset(Args::kGradKappa, row, column);
  }
  static int64_t whole(int64_t n) { return (n + kRowsAtOnce - 1) / kRowsAtOnce * kRowsAtOnce; }
  const T *const *read_column(int64_t begin, int64_t n, TileRows<T> &tile) const {
    return read_rows(tiles.columns.operands, tiles.columns.vector, begin, n, tile);
  }

  const BackwardOfPairsFamily<T> &family;
  Tiles tiles;
  const Dim<T> dim;
  const Again &again;
  const int64_t d;
  const int of_rows, of_columns;
  const bool needs_rows, needs_columns, needs_kappa;
  int64_t columns = 0;          // of the chunk
  Terms<T, T> column_terms;     // of the chunk
  Terms<T, double> row_terms;   // of the band
  std::unique_ptr<T[]> weights; // [rows of the band, columns of the chunk]
  std::vector<double> totals;   // [columns of the chunk, d]
};

// Computes the gradients if the batch consists of all pairs of values and laws, and each gradient of
// vectors is summed over the vectors of the other side alone; else returns false.
template <class T, class Again>
bool log_prob_backward_of_pairs(const BackwardOfPairsFamily<T> &family,
                                const LogProbBackward<T> &args, const Again &again) {
  using Args = LogProbBackward<T>;
  const auto &rows = args.operands.rows;
  const auto pairs = find_pairs(rows, Args::kValue, Args::kMu, kFewestOfPairs);
  if (!pairs)
    return false;
  const auto is_own = [&](int gradient, int other_dim) {
    if (!args.operands.needs(gradient))
      return true;
    bool own = rows.stride[gradient][other_dim] == 0;
    for (int j = 0; j < pairs->outer.ndim; ++j)
      own = own && pairs->outer.stride[gradient][j] != 0;
    return own;
  };
  if (!is_own(Args::kGradValue, pairs->y_dim) || !is_own(Args::kGradMu, pairs->x_dim))
    return false;
  return for_each_product(args.operands, Args::kValue, Args::kMu, Args::kKappa,
                          [&](const auto &x, const auto &y) {
                            LogProbBackwardOfPairs<T, Again>(family, args.dim, x, y, again).run();
                          });
}

} // namespace spherical
