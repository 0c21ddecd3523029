// The loops over the elements of a row that is converted.
#include "convert.h"
#include "../math/half.h"
#include "simd.h"

namespace spherical {

template <class S, class T> SIMD_CLONES void convert_from(const S *from, int64_t d, T *to) {
  for (int64_t i = 0; i < d; ++i) {
    if constexpr (std::is_same_v<S, float>)
      to[i] = from[i];
    else
      to[i] = to_float(from[i]);
  }
}
template <class S, class T> SIMD_CLONES void convert_to(const T *from, int64_t d, S *to) {
  for (int64_t i = 0; i < d; ++i) {
    if constexpr (std::is_same_v<S, float>)
      to[i] = static_cast<float>(from[i]);
    else
      convert(static_cast<float>(from[i]), to[i]);
  }
}

template <class T> void read_stored(Storage storage, const void *row, int64_t d, T *to) {
  dispatch_storage<T>(storage, row, [=](auto *stored) { convert_from(stored, d, to); });
}
template <class T> void write_stored(Storage storage, const T *from, int64_t d, void *row) {
  dispatch_storage<T>(storage, row, [=](auto *stored) { convert_to(from, d, stored); });
}

template void read_stored(Storage, const void *, int64_t, float *);
template void read_stored(Storage, const void *, int64_t, double *);
template void write_stored(Storage, const float *, int64_t, void *);
template void write_stored(Storage, const double *, int64_t, void *);

} // namespace spherical
