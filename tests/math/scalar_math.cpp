// The scalar functions of csrc/math over the rows of a table, and those of csrc/cpu that take tiles
// of rows, for test_scalar_math.py. FAMILY and DIVERGENCE export all functions of their argument, as
// ARGUMENT_FUNCTION_float32 and ARGUMENT_FUNCTION_float64.
#include "cpu/family_rows.h"
#include "cpu/random_words.h"
#include "dispatch.h"
#include "kl_power_spherical.h"
#include "kl_power_spherical_von_mises_fisher.h"

using namespace spherical;

// Calls f(begin, rows, dim) for tiles of neighbouring rows that have one d.
template <class T, class F> void over_tiles(int64_t n, const int64_t *d, const F &f) {
  for (int64_t begin = 0, end; begin < n; begin = end) {
    for (end = begin; end < n && end - begin < kTile && d[end] == d[begin];)
      ++end;
    f(begin, end - begin, make_dim<T>(d[begin]));
  }
}

// FAMILY::FUNCTION(kappa, dim)
#define OF_KAPPA(FAMILY, FUNCTION, T, SUFFIX)                                                      \
  extern "C" void FAMILY##_##FUNCTION##_##SUFFIX(int64_t n, const int64_t *d, const T *kappa,      \
                                                 T *out) {                                         \
    for (int64_t i = 0; i < n; ++i)                                                                \
      out[i] = FAMILY::FUNCTION(kappa[i], make_dim<T>(d[i]));                                      \
  }
// FAMILY::FUNCTION(kappa, dim, half_angle)
#define OF_HALF_ANGLE(FAMILY, FUNCTION, T, SUFFIX)                                                 \
  extern "C" void FAMILY##_##FUNCTION##_##SUFFIX(int64_t n, const int64_t *d, const T *kappa,      \
                                                 const T *sin2, const T *cos2, T *out) {           \
    for (int64_t i = 0; i < n; ++i)                                                                \
      out[i] = FAMILY::FUNCTION(kappa[i], make_dim<T>(d[i]), HalfAngle<T>{sin2[i], cos2[i]});      \
  }
// OverRows<FAMILY>::FUNCTION(dim, rows, kappa, out), as FUNCTION_rows
#define OF_TILES(FAMILY, T, SUFFIX)                                                                \
  extern "C" void FAMILY##_log_prob_at_mode_rows_##SUFFIX(int64_t n, const int64_t *d,             \
                                                          const T *kappa, T *out) {                \
    over_tiles<double>(n, d, [&](int64_t i, int64_t rows, const Dim<double> &dim) {                \
      double wide[kTile];                                                                          \
      OverRows<FAMILY>::log_prob_at_mode(dim, rows, kappa + i, wide);                              \
      std::copy(wide, wide + rows, out + i);                                                       \
    });                                                                                            \
  }                                                                                                \
  extern "C" void FAMILY##_log_prob_at_mode_over_uniform_rows_##SUFFIX(                            \
      int64_t n, const int64_t *d, const T *kappa, T *out) {                                       \
    over_tiles<double>(n, d, [&](int64_t i, int64_t rows, const Dim<double> &dim) {                \
      double in[kTile], wide[kTile];                                                               \
      std::copy(kappa + i, kappa + i + rows, in);                                                  \
      OverRows<FAMILY>::log_prob_at_mode_over_uniform(dim, rows, in, wide);                        \
      std::copy(wide, wide + rows, out + i);                                                       \
    });                                                                                            \
  }                                                                                                \
  extern "C" void FAMILY##_log_prob_at_mode_dkappa_rows_##SUFFIX(int64_t n, const int64_t *d,      \
                                                                 const T *kappa, T *out) {         \
    over_tiles<T>(n, d, [&](int64_t i, int64_t rows, const Dim<T> &dim) {                          \
      OverRows<FAMILY>::log_prob_at_mode_dkappa(dim, rows, kappa + i, out + i);                    \
    });                                                                                            \
  }                                                                                                \
  extern "C" void FAMILY##_implicit_gradient_rows_##SUFFIX(                                        \
      int64_t n, const int64_t *d, const T *kappa, const T *sin2, const T *cos2, T *out) {         \
    over_tiles<T>(n, d, [&](int64_t i, int64_t rows, const Dim<T> &dim) {                          \
      HalfAngle<T> half_angle[kTile];                                                              \
      for (int64_t r = 0; r < rows; ++r)                                                           \
        half_angle[r] = {sin2[i + r], cos2[i + r]};                                                \
      OverRows<FAMILY>::implicit_gradient(dim, rows, kappa + i, half_angle, out + i);              \
    });                                                                                            \
  }
#define FAMILY_AS(NAME, T, SUFFIX)                                                                 \
  OF_KAPPA(NAME, log_prob_at_mode, T, SUFFIX)                                                      \
  OF_KAPPA(NAME, log_prob_at_mode_dkappa, T, SUFFIX)                                               \
  OF_KAPPA(NAME, log_prob_at_mode_dkappa2, T, SUFFIX)                                              \
  OF_KAPPA(NAME, log_prob_at_mode_over_uniform, T, SUFFIX)                                         \
  OF_KAPPA(NAME, mean_resultant_length, T, SUFFIX)                                                 \
  OF_KAPPA(NAME, mean_resultant_length_dkappa, T, SUFFIX)                                          \
  OF_KAPPA(NAME, kl_uniform, T, SUFFIX)                                                            \
  OF_KAPPA(NAME, kl_uniform_dkappa, T, SUFFIX)                                                     \
  OF_HALF_ANGLE(NAME, log_prob_ratio, T, SUFFIX)                                                   \
  OF_HALF_ANGLE(NAME, log_prob_ratio_dt, T, SUFFIX)                                                \
  OF_HALF_ANGLE(NAME, log_prob_ratio_dkappa, T, SUFFIX)                                            \
  OF_HALF_ANGLE(NAME, implicit_gradient, T, SUFFIX)                                                \
  OF_TILES(NAME, T, SUFFIX)
#define FAMILY(NAME) FAMILY_AS(NAME, float, float32) FAMILY_AS(NAME, double, float64)

FAMILY(PowerSpherical)
FAMILY(VonMisesFisher)
FAMILY(SphericalCauchy)

// NAME::FUNCTION(kappa_p, kappa_q, dim, half_angle), in double as csrc/kl.h computes it
#define OF_KAPPAS(NAME, FUNCTION, T, SUFFIX)                                                       \
  extern "C" void NAME##_##FUNCTION##_##SUFFIX(int64_t n, const int64_t *d, const T *kappa_p,      \
                                               const T *kappa_q, const T *sin2, const T *cos2,     \
                                               T *out) {                                           \
    using R = double;                                                                              \
    for (int64_t i = 0; i < n; ++i)                                                                \
      out[i] = static_cast<T>(NAME::FUNCTION(R{kappa_p[i]}, R{kappa_q[i]}, make_dim<R>(d[i]),      \
                                             HalfAngle<R>{sin2[i], cos2[i]}));                     \
  }
#define DIVERGENCE_AS(NAME, T, SUFFIX)                                                             \
  OF_KAPPAS(NAME, kl, T, SUFFIX)                                                                   \
  OF_KAPPAS(NAME, kl_dkappa_p, T, SUFFIX)                                                          \
  OF_KAPPAS(NAME, kl_dkappa_q, T, SUFFIX)                                                          \
  OF_KAPPAS(NAME, kl_dsin2, T, SUFFIX)
#define DIVERGENCE(NAME) DIVERGENCE_AS(NAME, float, float32) DIVERGENCE_AS(NAME, double, float64)

DIVERGENCE(KlPowerSpherical)
DIVERGENCE(KlVonMisesFisher)
DIVERGENCE(KlSphericalCauchy)
DIVERGENCE(KlPowerSphericalVonMisesFisher)
DIVERGENCE(KlVonMisesFisherPowerSpherical)

// out[i] = NAME(x[i]); all arrays [n]
#define ELEMENTARY_AS(NAME, T, SUFFIX)                                                             \
  extern "C" void NAME##_##SUFFIX(int64_t n, const int64_t *, const T *x, T *out) {                \
    for (int64_t i = 0; i < n; ++i)                                                                \
      out[i] = NAME(x[i]);                                                                         \
  }
#define ELEMENTARY(NAME) ELEMENTARY_AS(NAME, float, float32) ELEMENTARY_AS(NAME, double, float64)

ELEMENTARY(log_of)
ELEMENTARY(log1p_of)
ELEMENTARY(exp_of)
ELEMENTARY(expm1_of)

extern "C" void sincos_turns(int64_t n, const double *u, double *sine, double *cosine) {
  for (int64_t i = 0; i < n; ++i)
    sincos_turn(u[i], sine[i], cosine[i]);
}

// words [n, 4] of n <= kMaxWordBlocks blocks. These are two functions because GCC 12 confuses the versions
// of block_words where a function of C calls it.
void random_words_of(int64_t n, uint64_t seed, uint32_t stream, const WordBlocks &blocks,
                     uint32_t *words) {
  uint32_t held[4 * kMaxWordBlocks];
  block_words(seed, stream, blocks, n, held);
  std::copy(held, held + 4 * n, words);
}
extern "C" void random_words(int64_t n, uint64_t seed, uint32_t stream, const uint64_t *row,
                             const uint64_t *block, uint32_t *words) {
  WordBlocks blocks{};
  std::copy(row, row + n, blocks.row);
  std::copy(block, block + n, blocks.block);
  random_words_of(n, seed, stream, blocks, words);
}
