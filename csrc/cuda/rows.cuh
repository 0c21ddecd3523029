// Kernels that work row by row: a team of threads takes a row, then the next that is its turn.
//
// A kernel is a struct with `args` (see log_prob.h) and
//   template <int V> __device__ void row(const Team &team, int64_t i) const;
// A thread loads V neighbouring elements at once: 16 bytes where all rows are aligned so, else one
// element.
#pragma once
#include "../rows.h"
#include "device.cuh"

namespace spherical {

constexpr int64_t kTermsPerSum = 64;    // added in sequence, before partial sums are added
constexpr int64_t kWarpBytes = 4096;    // the longest row that a warp takes
constexpr int64_t kSharedBytes = 32768; // for the rows of a block, of which six then fit together

// How many threads share a row: the fewest that load it at once, up to a warp; all of the block for
// long rows. A power of two.
inline int team_size(int64_t d, int64_t row_bytes, int width) {
  if (row_bytes > kWarpBytes)
    return kThreads;
  int size = 1;
  while (size < 32 && size * width < d)
    size *= 2;
  return size;
}

HD_INLINE bool fits_shared(int64_t row_bytes, int team_size) {
  return row_bytes * (kThreads / team_size) <= kSharedBytes;
}

// The threads that share a row: a part of a warp, a warp, or the block. All of them call each
// function together.
struct Team {
  int size;
  int rank;  // of this thread in its team
  int index; // of the team in its block

  explicit __device__ Team(int size)
      : size(size), rank(static_cast<int>(threadIdx.x) & (size - 1)),
        index(static_cast<int>(threadIdx.x) / size) {}

  __device__ void sync() const {
    if (size > 32)
      __syncthreads();
    else
      __syncwarp(mask());
  }

  // Replaces each value by its sum over the team: the same bits in every thread.
  template <class T, int N> __device__ void sum(T (&values)[N]) const {
    sum_lanes(values, size > 32 ? 32 : size);
    if (size > 32) {
      constexpr int warps = kThreads / 32;
      static __shared__ T partial[warps][N];
      __syncthreads(); // the last sums have been read
      if (threadIdx.x % 32 == 0)
        for (int k = 0; k < N; ++k)
          partial[threadIdx.x / 32][k] = values[k];
      __syncthreads();
      for (int k = 0; k < N; ++k)
        values[k] = partial[threadIdx.x % warps][k];
      sum_lanes(values, warps);
    }
  }

private:
  __device__ unsigned mask() const {
    return size < 32 ? ((1u << size) - 1u) << (threadIdx.x % 32 - rank) : ~0u;
  }

  template <class T, int N> __device__ void sum_lanes(T (&values)[N], int lanes) const {
    for (int distance = lanes / 2; distance > 0; distance /= 2)
      for (int k = 0; k < N; ++k)
        values[k] += __shfl_xor_sync(mask(), values[k], distance);
  }
};

// V neighbouring elements, moved by one instruction.
template <class T, int V> struct alignas(V * sizeof(T)) Pack {
  T element[V];
};
template <class T> constexpr int kPackWidth = 16 / sizeof(T);

template <int V, class T> __device__ Pack<T, V> load(const T *p) {
  return *reinterpret_cast<const Pack<T, V> *>(p);
}
template <int V, class T> __device__ void store(T *p, const Pack<T, V> &pack) {
  *reinterpret_cast<Pack<T, V> *>(p) = pack;
}

// Calls f(j) for the first j of every V neighbouring elements that are this thread's.
template <int V, class F>
__device__ __forceinline__ void for_each_pack(const Team &team, int64_t begin, int64_t end,
                                              const F &f) {
  for (int64_t j = begin + team.rank * V; j < end; j += team.size * V)
    f(j);
}

// N sums over the d elements of a row: term(j, out) writes the terms of elements j to j + V - 1.
// The error does not grow with d: kTermsPerSum terms in sequence, the sums of those, then a tree.
template <int V, class T, int N, class Term>
__device__ __forceinline__ void row_sums(const Team &team, int64_t d, T (&sums)[N],
                                         const Term &term) {
  const int64_t stretch = kTermsPerSum * team.size * V;
  for (int k = 0; k < N; ++k)
    sums[k] = 0;
  for (int64_t begin = 0; begin < d; begin += stretch) {
    const int64_t end = begin + stretch < d ? begin + stretch : d;
    T partial[V][N] = {};
    for_each_pack<V>(team, begin, end, [&](int64_t j) {
      T out[V][N];
      term(j, out);
      for (int v = 0; v < V; ++v)
        for (int k = 0; k < N; ++k)
          partial[v][k] += out[v][k];
    });
    for (int v = 0; v < V; ++v)
      for (int k = 0; k < N; ++k)
        sums[k] += partial[v][k];
  }
  team.sum(sums);
}

// Shared memory for the row of d elements that this team works on.
template <class T> __device__ T *shared_row(const Team &team, int64_t d) {
  extern __shared__ uint4 shared[];
  return reinterpret_cast<T *>(shared) + team.index * d;
}

// Kernel::blocks is given because a bound without that number makes ptxas spill registers.
template <int V, class Kernel>
__global__ void __launch_bounds__(kThreads, Kernel::blocks)
    for_each_row(const __grid_constant__ Kernel kernel, const int team_size) {
  const Team team(team_size);
  const int64_t n = kernel.args.in.rows.n, per_block = kThreads / team_size;
  for (int64_t i = blockIdx.x * per_block + team.index; i < n; i += gridDim.x * per_block)
    kernel.template row<V>(team, i);
}

template <int V, class T, class Kernel> void launch_rows_as(const Kernel &kernel) {
  const int64_t n = kernel.args.in.rows.n, d = kernel.args.in.rows.d;
  const int64_t row_bytes = d * static_cast<int64_t>(sizeof(T));
  const int size = team_size(d, row_bytes, V);
  const int64_t per_block = kThreads / size;
  const bool shared = Kernel::wants_shared_row && fits_shared(row_bytes, size);
  launch(kernel.args.device, for_each_row<V, Kernel>, (n + per_block - 1) / per_block,
         shared ? row_bytes * per_block : 0, kernel, size);
}

// Runs the kernel over all rows.
template <class T, class Kernel> void launch_rows(const Kernel &kernel) {
  if (!kernel.args.is_native())
    fail("CUDA kernels take tensors of one dtype, float32 or float64");
  if (kernel.args.is_aligned(16))
    launch_rows_as<kPackWidth<T>, T>(kernel);
  else
    launch_rows_as<1, T>(kernel);
}

} // namespace spherical
