// Rows converted between the type of their storage and the type that a kernel computes in. The
// loops are compiled in convert.cpp, for float and double.
#pragma once
#include "../operands.h"

namespace spherical {

// to[i] = element i of a row [d] that is stored as `storage`, which is not T.
template <class T> void read_stored(Storage storage, const void *row, int64_t d, T *to);

// Element i of a row [d] that is stored as `storage`, which is not T, becomes from[i].
template <class T> void write_stored(Storage storage, const T *from, int64_t d, void *row);

} // namespace spherical
