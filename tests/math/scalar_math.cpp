// The scalar functions of csrc/math over the rows of a table, and those of csrc/cpu that take tiles
// of rows, for test_scalar_math.py. One line per function; the exported symbol is
// FAMILY_FUNCTION_float32 and ..._float64.
#include "cpu/family_rows.h"
#include "cpu/random_words.h"
#include "kl_power_spherical.h"
#include "kl_power_spherical_von_mises_fisher.h"
#include "power_spherical.h"

using namespace spherical;

// out[i] = FAMILY::FUNCTION(kappa[i], d[i]); all arrays [n]
#define OF_KAPPA_AS(FAMILY, FUNCTION, T, SUFFIX)                                                   \
  extern "C" void FAMILY##_##FUNCTION##_##SUFFIX(int64_t n, const int64_t *d, const T *kappa,      \
                                                 T *out) {                                         \
    for (int64_t i = 0; i < n; ++i)                                                                \
      out[i] = FAMILY::FUNCTION(kappa[i], make_dim<T>(d[i]));                                      \
  }

// out[i] = FAMILY::FUNCTION(kappa[i], d[i], half_angle[i]); all arrays [n]
#define OF_KAPPA_CHORDS_AS(FAMILY, FUNCTION, T, SUFFIX)                                            \
  extern "C" void FAMILY##_##FUNCTION##_##SUFFIX(int64_t n, const int64_t *d, const T *kappa,      \
                                                 const T *sin2, const T *cos2, T *out) {                 \
    for (int64_t i = 0; i < n; ++i)                                                                \
      out[i] = FAMILY::FUNCTION(kappa[i], make_dim<T>(d[i]), HalfAngle<T>{sin2[i], cos2[i]});               \
  }

// out[i] = FAMILY::FUNCTION(kappa[i], half_angle[i]); all arrays [n]
#define OF_CHORDS_AS(FAMILY, FUNCTION, T, SUFFIX)                                                  \
  extern "C" void FAMILY##_##FUNCTION##_##SUFFIX(int64_t n, const int64_t *, const T *kappa,       \
                                                 const T *sin2, const T *cos2, T *out) {                 \
    for (int64_t i = 0; i < n; ++i)                                                                \
      out[i] = FAMILY::FUNCTION(kappa[i], HalfAngle<T>{sin2[i], cos2[i]});                                  \
  }

// out[i] = FAMILY::FUNCTION(r[i], one_minus_r[i], d[i]); all arrays [n]
#define OF_LENGTH_AS(FAMILY, FUNCTION, T, SUFFIX)                                                  \
  extern "C" void FAMILY##_##FUNCTION##_##SUFFIX(int64_t n, const int64_t *d, const T *r,          \
                                                 const T *one_minus_r, T *out) {                   \
    for (int64_t i = 0; i < n; ++i)                                                                \
      out[i] = FAMILY::FUNCTION(r[i], one_minus_r[i], make_dim<T>(d[i]));                          \
  }

#define BOTH(SHAPE, FAMILY, FUNCTION)                                                              \
  SHAPE##_AS(FAMILY, FUNCTION, float, float32) SHAPE##_AS(FAMILY, FUNCTION, double, float64)

BOTH(OF_KAPPA, PowerSpherical, log_prob_at_mode)
BOTH(OF_KAPPA, PowerSpherical, log_prob_at_mode_dkappa)
BOTH(OF_KAPPA, PowerSpherical, log_prob_at_mode_dkappa2)
BOTH(OF_KAPPA, PowerSpherical, mean_resultant_length)
BOTH(OF_KAPPA, PowerSpherical, kl_uniform)
BOTH(OF_KAPPA_CHORDS, PowerSpherical, implicit_gradient)
BOTH(OF_CHORDS, PowerSpherical, log_prob_ratio)
BOTH(OF_CHORDS, PowerSpherical, log_prob_ratio_dt)

BOTH(OF_KAPPA, VonMisesFisher, log_prob_at_mode)
BOTH(OF_KAPPA, VonMisesFisher, log_prob_at_mode_dkappa)
BOTH(OF_KAPPA, VonMisesFisher, log_prob_at_mode_dkappa2)
BOTH(OF_KAPPA, VonMisesFisher, mean_resultant_length)
BOTH(OF_KAPPA, VonMisesFisher, kl_uniform)
BOTH(OF_KAPPA_CHORDS, VonMisesFisher, implicit_gradient)
BOTH(OF_CHORDS, VonMisesFisher, log_prob_ratio)
BOTH(OF_LENGTH, VonMisesFisher, inverse_mean_resultant_length)

// out[i] = FAMILY::FUNCTION(kappa[i], kappa_q[i], d[i], half_angle[i]); all arrays [n]
#define OF_KAPPAS_CHORDS_AS(FAMILY, FUNCTION, T, SUFFIX)                                           \
  extern "C" void FAMILY##_##FUNCTION##_##SUFFIX(int64_t n, const int64_t *d, const T *kappa,      \
                                                 const T *kappa_q, const T *sin2, const T *cos2,         \
                                                 T *out) {                                         \
    using R = double; /* as csrc/kl.h does */                                                      \
    for (int64_t i = 0; i < n; ++i)                                                                \
      out[i] = static_cast<T>(                                                                     \
          FAMILY::FUNCTION(R{kappa[i]}, R{kappa_q[i]}, make_dim<R>(d[i]), HalfAngle<R>{sin2[i], cos2[i]})); \
  }

BOTH(OF_KAPPAS_CHORDS, KlPowerSpherical, kl)
BOTH(OF_KAPPAS_CHORDS, KlPowerSpherical, kl_dkappa_p)
BOTH(OF_KAPPAS_CHORDS, KlPowerSpherical, kl_dkappa_q)
BOTH(OF_KAPPAS_CHORDS, KlPowerSpherical, kl_dsin2)

BOTH(OF_KAPPAS_CHORDS, KlVonMisesFisher, kl)
BOTH(OF_KAPPAS_CHORDS, KlVonMisesFisher, kl_dkappa_p)
BOTH(OF_KAPPAS_CHORDS, KlVonMisesFisher, kl_dkappa_q)
BOTH(OF_KAPPAS_CHORDS, KlVonMisesFisher, kl_dsin2)
BOTH(OF_KAPPAS_CHORDS, KlPowerSphericalVonMisesFisher, kl)
BOTH(OF_KAPPAS_CHORDS, KlPowerSphericalVonMisesFisher, kl_dkappa_p)
BOTH(OF_KAPPAS_CHORDS, KlPowerSphericalVonMisesFisher, kl_dkappa_q)
BOTH(OF_KAPPAS_CHORDS, KlPowerSphericalVonMisesFisher, kl_dsin2)
BOTH(OF_KAPPAS_CHORDS, KlVonMisesFisherPowerSpherical, kl)
BOTH(OF_KAPPAS_CHORDS, KlVonMisesFisherPowerSpherical, kl_dkappa_p)
BOTH(OF_KAPPAS_CHORDS, KlVonMisesFisherPowerSpherical, kl_dkappa_q)
BOTH(OF_KAPPAS_CHORDS, KlVonMisesFisherPowerSpherical, kl_dsin2)

// Tiles of rows of one d: OverRows<FAMILY>::FUNCTION(dim, kappa, ..., out) as FAMILY_FUNCTION_rows.
template <class T, class F> void for_each_tile(int64_t n, const int64_t *d, const F &f) {
  for (int64_t begin = 0, end; begin < n; begin = end) {
    for (end = begin; end < n && end - begin < kTile && d[end] == d[begin];)
      ++end;
    f(begin, end - begin, make_dim<T>(d[begin]));
  }
}
#define OVER_ROWS_AS(FAMILY, T, SUFFIX)                                                            \
  extern "C" void FAMILY##_log_prob_at_mode_rows_##SUFFIX(int64_t n, const int64_t *d, const T *kappa,     \
                                                  T *out) {                                        \
    for_each_tile<double>(n, d, [&](int64_t i, int64_t rows, const Dim<double> &dim) {             \
      double wide[kTile];                                                                          \
      OverRows<FAMILY>::log_prob_at_mode(dim, rows, kappa + i, wide);                                      \
      std::copy(wide, wide + rows, out + i);                                                       \
    });                                                                                            \
  }                                                                                                \
  extern "C" void FAMILY##_log_prob_at_mode_dkappa_rows_##SUFFIX(int64_t n, const int64_t *d, const T *kappa,   \
                                                    T *out) {                                      \
    for_each_tile<T>(n, d, [&](int64_t i, int64_t rows, const Dim<T> &dim) {                       \
      OverRows<FAMILY>::log_prob_at_mode_dkappa(dim, rows, kappa + i, out + i);                                 \
    });                                                                                            \
  }                                                                                                \
  extern "C" void FAMILY##_implicit_gradient_rows_##SUFFIX(int64_t n, const int64_t *d, const T *kappa,     \
                                                  const T *sin2, const T *cos2, T *out) {                \
    for_each_tile<T>(n, d, [&](int64_t i, int64_t rows, const Dim<T> &dim) {                       \
      HalfAngle<T> half_angle[kTile];                                                                     \
      for (int64_t r = 0; r < rows; ++r)                                                           \
        half_angle[r] = {sin2[i + r], cos2[i + r]};                                                          \
      OverRows<FAMILY>::implicit_gradient(dim, rows, kappa + i, half_angle, out + i);                           \
    });                                                                                            \
  }
#define OVER_ROWS(FAMILY) OVER_ROWS_AS(FAMILY, float, float32) OVER_ROWS_AS(FAMILY, double, float64)

OVER_ROWS(PowerSpherical)
OVER_ROWS(VonMisesFisher)

// out[i] = FUNCTION(x[i]); all arrays [n]
#define ELEMENTARY_AS(FUNCTION, T, SUFFIX)                                                         \
  extern "C" void FUNCTION##_##SUFFIX(int64_t n, const int64_t *, const T *x, T *out) {            \
    for (int64_t i = 0; i < n; ++i)                                                                \
      out[i] = FUNCTION(x[i]);                                                                     \
  }
#define ELEMENTARY(FUNCTION)                                                                       \
  ELEMENTARY_AS(FUNCTION, float, float32) ELEMENTARY_AS(FUNCTION, double, float64)

ELEMENTARY(log_of)
ELEMENTARY(log1p_of)
ELEMENTARY(exp_of)
ELEMENTARY(expm1_of)

// words [n, 4] of n <= kBlocks blocks. Two functions: GCC 12 confuses the versions of block_words
// where a function of C calls it.
void random_words_of(int64_t n, uint64_t seed, uint32_t stream, const Blocks &blocks,
                     uint32_t *words) {
  uint32_t held[4 * kBlocks];
  block_words(seed, stream, blocks, n, held);
  std::copy(held, held + 4 * n, words);
}
extern "C" void random_words(int64_t n, uint64_t seed, uint32_t stream, const uint64_t *row,
                             const uint64_t *block, uint32_t *words) {
  Blocks blocks{};
  std::copy(row, row + n, blocks.row);
  std::copy(block, block + n, blocks.block);
  random_words_of(n, seed, stream, blocks, words);
}
