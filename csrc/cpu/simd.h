// Functions compiled for several instruction sets, and vectors for loops that the compiler does not
// vectorise by itself.
#pragma once
#include "../math/portable.h"
#include <algorithm>

// SIMD_CLONES compiles a function once for each x86-64 level; one is chosen when the library is
// loaded (by ifunc, which only GNU systems have). It works on templates, too.
#if defined(__x86_64__) && defined(__linux__) && defined(__GLIBC__) && defined(__GNUC__) &&        \
    !defined(__clang__)
#define SIMD_VERSIONS
#define SIMD_CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define SIMD_CLONES
#endif
// FLATTEN inlines everything that a function calls, so that it is part of each clone.
#define FLATTEN __attribute__((flatten))

namespace spherical {

// A vector of as many T as 32 bytes hold, or another number of bytes.
template <class T, int bytes = 32> struct VectorOf {
  typedef T type __attribute__((vector_size(bytes)));
  static constexpr int64_t width = bytes / sizeof(T);
};
template <class T> using Vector = typename VectorOf<T>::type;
template <class T> HD_INLINE void load(const T *from, Vector<T> &v) { memcpy(&v, from, sizeof v); }
template <class T> HD_INLINE void store(const Vector<T> &v, T *to) { memcpy(to, &v, sizeof v); }

// Repeats the last of n > 0 values until they fill whole vectors. values has room for that.
template <class T> HD_INLINE void fill_vector(T *values, int64_t n) {
  std::fill(values + n,
            values + (n + VectorOf<T>::width - 1) / VectorOf<T>::width * VectorOf<T>::width,
            values[n - 1]);
}

} // namespace spherical
