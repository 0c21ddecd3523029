// Functions compiled for several instruction sets, and vectors for loops that the compiler does not
// vectorise by itself.
#pragma once
#include "../math/portable.h"
#include <algorithm>
#include <utility>

// The compiler's flags say which CPU is the least; see csrc/build_backend.py. SIMD_CLONES compiles a
// function for this CPU and for AVX-512, and one is chosen when the library is loaded (by ifunc, which
// only GNU systems have). It works on templates, too. Where vectors have another width for AVX-512,
// SIMD_LEAST and SIMD_AVX512 mark two functions of one name. The function that chooses runs before
// the thread sanitizer, which GCC would let it call.
#if defined(__AVX2__) && !defined(__AVX512F__) && defined(__linux__) && defined(__GLIBC__) &&      \
    defined(__GNUC__) && !defined(__clang__) && !defined(__SANITIZE_THREAD__)
#define SIMD_VERSIONS
#define SIMD_CLONES __attribute__((target_clones("arch=x86-64-v4", "default")))
#define SIMD_LEAST __attribute__((target("default")))
#define SIMD_AVX512 __attribute__((target("arch=x86-64-v4")))
#else
#define SIMD_CLONES
#define SIMD_LEAST
#endif
// FLATTEN inlines everything that a function calls, so that it is part of each clone.
#define FLATTEN __attribute__((flatten))

namespace spherical {

// The vectors of the least CPU, and whether it has fused products.
#if defined(__AVX512F__)
constexpr int kVectorBytes = 64;
#elif defined(__AVX2__)
constexpr int kVectorBytes = 32;
#else
constexpr int kVectorBytes = 16;
#endif
#ifdef __FMA__
constexpr bool kFused = true;
#else
constexpr bool kFused = false;
#endif

// A vector of as many T as 32 bytes, or so many, hold.
template <class T, int bytes = 32> struct VectorOf {
  typedef T type __attribute__((vector_size(bytes)));
  static constexpr int64_t width = bytes / sizeof(T);
};
template <class T, int bytes = 32> using Vector = typename VectorOf<T, bytes>::type;
template <class T, class V> HD_INLINE void load(const T *from, V &v) { memcpy(&v, from, sizeof v); }
template <class T, class V> HD_INLINE void store(const V &v, T *to) { memcpy(to, &v, sizeof v); }

// Some vectors that are computed with in step, so that the chains of operations of one hide the
// latency of those of the others. A vector type wider than those of the CPU would be taken apart
// through memory.
template <class V, int count> struct Vectors {
  V part[count];

  using Element = std::decay_t<decltype(std::declval<V>()[0])>;
  HD_INLINE Element operator[](int) const; // not defined: it says what the elements are

#define ELEMENTWISE(OP)                                                                            \
  friend HD_INLINE Vectors operator OP(const Vectors &a, const Vectors &b) {                       \
    Vectors result;                                                                                \
    for (int i = 0; i < count; ++i)                                                                \
      result.part[i] = a.part[i] OP b.part[i];                                                     \
    return result;                                                                                 \
  }                                                                                                \
  friend HD_INLINE Vectors operator OP(Element a, const Vectors &b) {                              \
    Vectors result;                                                                                \
    for (int i = 0; i < count; ++i)                                                                \
      result.part[i] = a OP b.part[i];                                                             \
    return result;                                                                                 \
  }                                                                                                \
  friend HD_INLINE Vectors operator OP(const Vectors &a, Element b) {                              \
    Vectors result;                                                                                \
    for (int i = 0; i < count; ++i)                                                                \
      result.part[i] = a.part[i] OP b;                                                             \
    return result;                                                                                 \
  }
  ELEMENTWISE(+)
  ELEMENTWISE(-)
  ELEMENTWISE(*)
  ELEMENTWISE(/)
#undef ELEMENTWISE
  template <class T> HD_INLINE Vectors &operator+=(const T &b) { return *this = *this + b; }
  template <class T> HD_INLINE Vectors &operator*=(const T &b) { return *this = *this * b; }
};

template <class V> using ElementOf = std::decay_t<decltype(std::declval<V>()[0])>;
template <class V> constexpr int kWidth = sizeof(V) / sizeof(ElementOf<V>);

// Calls f(0) ... f(n - 1) in a row, so that arrays which the index selects from live in registers.
template <class F, int... I> HD_INLINE void unrolled(const F &f, std::integer_sequence<int, I...>) {
  (f(std::integral_constant<int, I>()), ...);
}
template <int n, class F> HD_INLINE void unrolled(const F &f) {
  unrolled(f, std::make_integer_sequence<int, n>());
}

// v[i] = f(i) for each element, in the one form for which GCC 12 makes a conversion or a fused
// product of the whole vector.
template <class V, class F, int... I>
HD_INLINE void fill_elements(V &v, const F &f, std::integer_sequence<int, I...>) {
  v = V{f(I)...};
}
template <class V, class F> HD_INLINE void fill_elements(V &v, const F &f) {
  fill_elements(v, f, std::make_integer_sequence<int, kWidth<V>>());
}

// The sum of the elements of v, by halves.
template <class V, int... I>
HD_INLINE ElementOf<V> sum_of_elements(const V &v, std::integer_sequence<int, I...>) {
  constexpr int half = sizeof...(I);
  if constexpr (half == 1)
    return v[0] + v[1];
  else
    return sum_of_elements(__builtin_shufflevector(v, v, I...) +
                               __builtin_shufflevector(v, v, (half + I)...),
                           std::make_integer_sequence<int, half / 2>());
}
template <class V> HD_INLINE ElementOf<V> sum_of_elements(const V &v) {
  return sum_of_elements(v, std::make_integer_sequence<int, kWidth<V> / 2>());
}

// v[i] = from[i], converted.
template <class V, class T> HD_INLINE void load_as(const T *from, V &v) {
  using S = ElementOf<V>;
  if constexpr (std::is_same_v<S, T>)
    memcpy(&v, from, sizeof v);
  else
    fill_elements(v, [=](int i) __attribute__((always_inline)) { return static_cast<S>(from[i]); });
}

// c += a b, rounded once. V is a number or a vector.
template <class V> HD_INLINE void add_fused(const V &a, const V &b, V &c) {
  if constexpr (std::is_arithmetic_v<V>)
    c = std::fma(a, b, c);
  else
    fill_elements(c,
                  [&](int i) __attribute__((always_inline)) { return std::fma(a[i], b[i], c[i]); });
}

// Repeats the last of n > 0 values until they fill whole vectors. values has room for that.
template <class V> HD_INLINE void fill_vector(ElementOf<V> *values, int64_t n) {
  std::fill(values + n, values + (n + kWidth<V> - 1) / kWidth<V> * kWidth<V>, values[n - 1]);
}

} // namespace spherical
