// Kernels that go over a row twice: for sums over its elements, then for results that need both.
// The second time the elements come from registers, where these hold the row.
//
// A kernel is a struct with `args` (see log_prob.h) and
//   T, S, kSums                    type of the elements, and of kSums sums over them
//   kNarrow                        the layout of packs in rows that are not aligned as packs are
//   kBlocks                        of the most threads, to a multiprocessor: bounds the registers
//   Row row(i)                     the pointers and scalars of row i
//   Held read(row, place)          a pack of all that the sums need; 0 where no element is
//   void keep(row, place, held)    stores what is to be read again, if it is not an input
//   Held read_again(row, place)    the same pack, for the results
//   void terms(held, k, out)       what element k of a pack adds to the sums
//   Scalars scalars(worker, sums)  what the results need of the sums
//   bool writes() const            whether there are results for each element,
//   void write(row, place, held, scalars)        and how a pack of them is written
//   void write_scalar(row, i, sums, scalars)     the result that a row has one of; by one thread,
//                                  and last, when registers are free and the stores under way
#pragma once
#include "../rows.h"
#include "device.cuh"

namespace spherical {

// The threads that share a row: a part of a warp, a warp, or the block. All of them call each
// function together.
struct Team {
  int size;
  int rank;  // of this thread in its team
  int index; // of the team in its block

  explicit __device__ Team(int size)
      : size(size), rank(static_cast<int>(threadIdx.x) & (size - 1)),
        index(static_cast<int>(threadIdx.x) / size) {}

  // Replaces each value by its sum over the team: the same bits in every thread.
  template <class T, int N> __device__ void sum(T (&values)[N]) const {
    sum_lanes(values, size > 32 ? 32 : size);
    if (size > 32) {
      static __shared__ T partial[32][N];
      const int warps = size / 32;
      __syncthreads(); // the last sums have been read
      if (threadIdx.x % 32 == 0)
        for (int k = 0; k < N; ++k)
          partial[threadIdx.x / 32][k] = values[k];
      __syncthreads();
      for (int k = 0; k < N; ++k)
        values[k] = partial[threadIdx.x & (warps - 1)][k];
      sum_lanes(values, warps);
    }
  }

  // Gives every thread the values of rank 0.
  template <class T, int N> __device__ void broadcast(T (&values)[N]) const {
    if (size > 32) {
      static __shared__ T shared[N];
      __syncthreads(); // the last values have been read
      if (rank == 0)
        for (int k = 0; k < N; ++k)
          shared[k] = values[k];
      __syncthreads();
      for (int k = 0; k < N; ++k)
        values[k] = shared[k];
    } else {
      for (int k = 0; k < N; ++k)
        values[k] = __shfl_sync(mask(), values[k], 0, size);
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

// The elements that a thread handles together: as many, whatever their type in memory, as make 16
// bytes of the type S in which they are computed with.
template <class T, int width> struct alignas(width * sizeof(T)) PackOf {
  T element[width];
};
template <class S> using Pack = PackOf<S, kPackWidth<S>>;

template <class T, class S> constexpr int kPackBytes = kPackWidth<S> * sizeof(T);

// Elements that do not exist are 0. The loops have constant strides, so that one address serves.
template <class S, class T> __device__ __forceinline__ Pack<S> load(const T *row, const Place &at) {
  constexpr int width = kPackWidth<S>;
  PackOf<T, width> read{};
  row += at.first;
  if (at.layout == Layout::wide) {
    if (at.left > 0)
      read = *reinterpret_cast<const PackOf<T, width> *>(row);
  } else if (at.layout == Layout::strided) {
    for (int k = 0; k < width; ++k)
      if (at.has(k))
        read.element[k] = row[k * 32];
  } else {
    for (int k = 0; k < width; ++k)
      if (at.has(k))
        read.element[k] = row[k];
  }
  Pack<S> pack;
  for (int k = 0; k < width; ++k)
    pack.element[k] = S(read.element[k]);
  return pack;
}

template <class S, class T>
__device__ __forceinline__ void store(T *row, const Place &at, const Pack<S> &pack) {
  constexpr int width = kPackWidth<S>;
  PackOf<T, width> written;
  for (int k = 0; k < width; ++k)
    written.element[k] = T(pack.element[k]);
  row += at.first;
  if (at.layout == Layout::wide) {
    if (at.left > 0)
      *reinterpret_cast<PackOf<T, width> *>(row) = written;
  } else if (at.layout == Layout::strided) {
    for (int k = 0; k < width; ++k)
      if (at.has(k))
        row[k * 32] = written.element[k];
  } else {
    for (int k = 0; k < width; ++k)
      if (at.has(k))
        row[k] = written.element[k];
  }
}

enum class Phase { rows, part_sums, parts }; // one launch for whole rows, or two for their parts

template <class S> struct Work {
  RowPlan plan;
  Phase phase;
  int64_t items; // rows, or parts of them
  S *part_sums;  // [n, parts, kSums]: from the first launch to the second
};

// One team at work on one row, or on a part of it.
template <class Kernel> struct RowWorker {
  using S = typename Kernel::S;
  static constexpr int kSums = Kernel::kSums;
  const Kernel &kernel;
  const Work<S> &work;
  const Team &team;
  const Item item;
  const typename Kernel::Row row;
  typename Kernel::Held held[kPacks]; // the chunk read last

  __device__ __forceinline__ Place place(int64_t chunk, int64_t end, int q) const {
    return work.plan.place(chunk, end, team.rank, q);
  }

  // Adds this thread's terms of elements [begin, end): those of a pack, then pack by pack.
  __device__ __forceinline__ void add(int64_t begin, int64_t end, S (&sums)[kSums]) {
    for (int64_t chunk = begin; chunk < end; chunk += work.plan.chunk()) {
#pragma unroll
      for (int q = 0; q < kPacks; ++q)
        held[q] = kernel.read(row, place(chunk, end, q));
      if (!work.plan.resident)
#pragma unroll
        for (int q = 0; q < kPacks; ++q)
          kernel.keep(row, place(chunk, end, q), held[q]);
#pragma unroll
      for (int q = 0; q < kPacks; ++q) {
        S of_pack[kSums] = {};
        for (int k = 0; k < kPackWidth<S>; ++k) {
          S out[kSums];
          kernel.terms(held[q], k, out);
          for (int s = 0; s < kSums; ++s)
            of_pack[s] += out[s];
        }
        for (int s = 0; s < kSums; ++s)
          sums[s] += of_pack[s];
      }
    }
  }

  template <class Scalars>
  __device__ __forceinline__ void write(int64_t begin, int64_t end, const Scalars &scalars) {
    for (int64_t chunk = begin; chunk < end; chunk += work.plan.chunk()) {
      if (!work.plan.resident)
#pragma unroll
        for (int q = 0; q < kPacks; ++q)
          held[q] = kernel.read_again(row, place(chunk, end, q));
#pragma unroll
      for (int q = 0; q < kPacks; ++q)
        kernel.write(row, place(chunk, end, q), held[q], scalars);
    }
  }

  // The sums over all parts of the item, in every thread. Thread r of the team adds parts r,
  // r + size, ..., then a tree adds the threads: in both ways, so that they give the same bits.
  __device__ __forceinline__ void sum_by_reading(S (&sums)[kSums]) {
    const bool one = item.last - item.first == 1;
    for (int32_t p = item.first; p < item.last; ++p) {
      S of_part[kSums] = {};
      add(work.plan.begin(p), work.plan.begin(p + 1), of_part);
      team.sum(of_part);
      if (one || p % team.size == team.rank)
        for (int s = 0; s < kSums; ++s)
          sums[s] += of_part[s];
    }
    if (!one)
      team.sum(sums);
  }
  __device__ __forceinline__ void sum_of_part_sums(S (&sums)[kSums]) {
    for (int32_t p = team.rank; p < work.plan.parts; p += team.size)
      for (int s = 0; s < kSums; ++s)
        sums[s] += part_sums(p)[s];
    team.sum(sums);
  }

  __device__ __forceinline__ S *part_sums(int32_t p) const {
    return work.part_sums + (item.row * work.plan.parts + p) * kSums;
  }

  __device__ __forceinline__ void run() {
    if (item.first > 0 && work.phase == Phase::parts && !kernel.writes())
      return;
    S sums[kSums] = {};
    if (work.phase == Phase::parts)
      sum_of_part_sums(sums);
    else
      sum_by_reading(sums);
    if (work.phase == Phase::part_sums) {
      if (team.rank == 0)
        for (int s = 0; s < kSums; ++s)
          part_sums(item.first)[s] = sums[s];
      return;
    }
    const auto scalars = kernel.scalars(*this, sums);
    if (kernel.writes())
      write(work.plan.begin(item.first), work.plan.begin(item.last), scalars);
    if (team.rank == 0 && item.first == 0)
      kernel.write_scalar(row, item.row, sums, scalars);
  }
};

template <class Kernel>
__global__ void __launch_bounds__(kMaxTeam<typename Kernel::S>, Kernel::kBlocks)
    for_each_row(const __grid_constant__ Kernel kernel,
                 const __grid_constant__ Work<typename Kernel::S> work) {
  const RowPlan &plan = work.plan;
  const Team team(plan.team);
  const int64_t teams = plan.threads() / team.size;
  for (int64_t i = blockIdx.x * teams + team.index; i < work.items; i += gridDim.x * teams) {
    const Item item = work.phase == Phase::rows ? plan.row(i) : plan.part(i);
    RowWorker<Kernel>{kernel, work, team, item, kernel.row(item.row), {}}.run();
  }
}

// Runs the kernel over all rows.
template <class Kernel> void launch_rows(const Kernel &kernel) {
  using S = typename Kernel::S;
  const Layout layout =
      kernel.args.is_aligned(kPackBytes<typename Kernel::T, S>) ? Layout::wide : Kernel::kNarrow;
  const RowPlan plan = plan_rows<S>(kernel.args.in.rows.n, kernel.args.in.rows.d, layout);
  const int32_t device = kernel.args.device;
  const auto run = [&](Phase phase, int64_t items, S *part_sums) {
    launch(device, for_each_row<Kernel>, plan.blocks(items), plan.threads(), kernel,
           Work<S>{plan, phase, items, part_sums});
  };
  if (!plan.is_split())
    return run(Phase::rows, plan.n, nullptr);
  const int64_t parts = plan.n * plan.parts;
  Tensor sums = new_array<S>(device, parts * Kernel::kSums);
  run(Phase::part_sums, parts, sums.template out<S>());
  run(Phase::parts, parts, sums.template out<S>());
}

} // namespace spherical
