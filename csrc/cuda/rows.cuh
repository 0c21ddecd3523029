// Kernels that go over a row twice: for sums over its elements, then for results that need the
// sums. The second time the elements come from registers, where these hold the row.
//
// A kernel is a struct with `args` (see log_prob.h) and
//   T, kSums                       the type to compute in; how many sums over a row it needs
//   kUnalignedLayout               the layout of packs in rows that are not aligned as packs are
//   kMinBlocks                     blocks of the most threads to a multiprocessor: bounds registers
//   kMaySplit                      whether parts of a long row may go to different blocks
//   Row row(i)                     where row i of each operand begins, and its scalars
//   Stored load(row, place, pass)  begins to read a pack of what the sums need, or on the second
//                                  pass the results; waits for nothing
//   Held held(row, place, stored, pass)  that pack as T; 0 where no element is
//   void keep(row, place, held)    stores what is to be read again, if it is not an input
//   void terms(held, k, out)       what element k of a pack adds to the sums
//   Scalars scalars(worker, sums)  what the results need of the sums
//   bool writes() const            whether there are results for each element
//   void write(row, place, held, scalars)      writes a pack of these
//   Last last(sums, scalars)       what the results that a row has one of need
//   void write_scalar(row, i, last)  writes these, by one thread. A team takes some rows one after
//                                  another; then each of its threads has the scalars of one row
// With kMaySum write_scalar returns what the row adds to a sum over all rows, and then there are
//   bool sums_rows() const         whether that sum is wanted
//   T *block_sums() const          room for the sum of each block's rows
//   void write_sum(sum)            writes that of all rows; by one thread
#pragma once
#include "../math/half.h"
#include "../operands.h"
#include "../sphere.h"
#include "device.cuh"
#include "plan.h"

namespace spherical {

// The threads that share a row: a part of a warp, a warp, or the block. All of them call each
// function together.
struct Team {
  int size;
  int rank;  // of this thread in its team
  int index; // of the team in its block

  static __device__ Team of(const RowPlan &plan) {
    const int thread = static_cast<int>(threadIdx.x);
    return {plan.team, thread & (plan.team - 1), thread >> plan.log2_team};
  }
  static __device__ Team of_block(const RowPlan &plan) {
    return {plan.threads(), static_cast<int>(threadIdx.x), 0};
  }

  // Replaces each value by its sum over the team: the same bits in every thread.
  template <class T, int N> __device__ void sum(T (&values)[N]) const {
    if (size < 32)
      return sum_lanes<16>(values, mask(), size);
    sum_lanes<32>(values, ~0u, 32);
    if (size > 32) {
      static __shared__ T partial[kMaxWarps][N];
      __syncthreads(); // the last sums have been read
      if (threadIdx.x % 32 == 0)
        for (int k = 0; k < N; ++k)
          partial[threadIdx.x / 32][k] = values[k];
      __syncthreads();
      const int warps = size / 32, warp = static_cast<int>(threadIdx.x) & (warps - 1);
      for (int k = 0; k < N; ++k)
        values[k] = partial[warp][k];
      sum_lanes<kMaxWarps>(values, ~0u, warps);
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

  // Over `lanes` neighbouring threads, which are `most` at most.
  template <int most, class T, int N>
  static __device__ __forceinline__ void sum_lanes(T (&values)[N], unsigned mask, int lanes) {
#pragma unroll
    for (int distance = most / 2; distance > 0; distance /= 2)
      if (distance < lanes)
        for (int k = 0; k < N; ++k)
          values[k] += __shfl_xor_sync(mask, values[k], distance);
  }
};

// The elements that a thread handles together: as many as make 16 bytes of the type that they are
// computed with, however they are stored.
template <class T, int width> struct alignas(width * sizeof(T)) PackOf {
  T element[width];
};
template <class T> using Pack = PackOf<T, kPackWidth<T>>;

// A pack whose first element is there. Elements that do not exist are 0. The loops have constant
// strides, so that one address serves.
template <int width, class T>
__device__ __forceinline__ PackOf<T, width> load(const T *first, const Place &at) {
  PackOf<T, width> pack{};
  if (at.layout == Layout::wide) {
    if (at.left > 0)
      pack = *reinterpret_cast<const PackOf<T, width> *>(first);
  } else if (at.layout == Layout::strided) {
    for (int k = 0; k < width; ++k)
      if (at.has(k))
        pack.element[k] = first[k * 32];
  } else {
    for (int k = 0; k < width; ++k)
      if (at.has(k))
        pack.element[k] = first[k];
  }
  return pack;
}

template <int width, class T>
__device__ __forceinline__ void store(T *first, const Place &at, const PackOf<T, width> &pack) {
  if (at.layout == Layout::wide) {
    if (at.left > 0)
      *reinterpret_cast<PackOf<T, width> *>(first) = pack;
  } else if (at.layout == Layout::strided) {
    for (int k = 0; k < width; ++k)
      if (at.has(k))
        first[k * 32] = pack.element[k];
  } else {
    for (int k = 0; k < width; ++k)
      if (at.has(k))
        first[k] = pack.element[k];
  }
}

// The bits of a pack. Half precision has two elements in each of the first words, if the layout is
// wide, and else one in each word.
template <class T>
using BitsOf = PackOf<std::conditional_t<is_float32<T>, uint32_t, T>, kPackWidth<T>>;

// The first byte of an element of operand k, whose data begin there. One address serves elements of
// either size; one for each would take registers of every loop.
template <class Byte, class T, int I, int O>
__device__ __forceinline__ Byte *address(Byte *data, const RowOperands<T, I, O> &operands, int k,
                                         int64_t element) {
  const int log2_size = is_float32<T> ? operands.is_native(k) ? 2 : 1 : 3;
  return data + (element << log2_size);
}

// Begins to load a pack of input k, whose row begins at its element `row`. Nothing here uses what is
// loaded, so the loads of several packs and operands are under way together.
template <class T, int I, int O>
__device__ __forceinline__ BitsOf<T> load(const RowOperands<T, I, O> &operands, int k, int64_t row,
                                          const Place &at) {
  using Bits = BitsOf<T>;
  constexpr int width = kPackWidth<T>;
  const void *first =
      address(static_cast<const char *>(operands.inputs[k]), operands, k, row + at.first);
  if constexpr (is_float32<T>) {
    if (!operands.is_native(k)) {
      const uint16_t *halves = static_cast<const uint16_t *>(first);
      Bits bits{};
      if (at.layout == Layout::wide) {
        PackOf<uint32_t, width / 2> words{};
        if (at.left > 0)
          words = *reinterpret_cast<const PackOf<uint32_t, width / 2> *>(halves);
        for (int j = 0; j < width / 2; ++j)
          bits.element[j] = words.element[j];
      } else {
        const auto elements = load<width>(halves, at);
        for (int j = 0; j < width; ++j)
          bits.element[j] = elements.element[j];
      }
      return bits;
    }
    return load<width>(static_cast<const uint32_t *>(first), at);
  } else {
    return load<width>(static_cast<const T *>(first), at);
  }
}

// The numbers of a pack of input k. The branches are the same for all threads.
template <class T, int I, int O>
__device__ __forceinline__ Pack<T> numbers(const RowOperands<T, I, O> &operands, int k,
                                           Layout layout, BitsOf<T> bits) {
  if constexpr (is_float32<T>) {
    constexpr int width = kPackWidth<T>;
    Pack<T> pack;
    if (operands.is_native(k)) {
      for (int j = 0; j < width; ++j)
        pack.element[j] = from_bits(bits.element[j]);
      return pack;
    }
    if (layout == Layout::wide)
      for (int j = width - 1; j >= 0; --j)
        bits.element[j] = bits.element[j / 2] >> 16 * (j % 2);
    if (operands.storage[k] == Storage::bfloat16)
      for (int j = 0; j < width; ++j)
        pack.element[j] = to_float(BFloat16{static_cast<uint16_t>(bits.element[j])});
    else
      for (int j = 0; j < width; ++j)
        pack.element[j] = to_float(Float16{static_cast<uint16_t>(bits.element[j])});
    return pack;
  } else {
    return bits;
  }
}

// Stores a pack of result k, whose row begins at its element `row`.
template <class T, int I, int O>
__device__ __forceinline__ void store(const RowOperands<T, I, O> &operands, int k, int64_t row,
                                      const Place &at, const Pack<T> &pack) {
  constexpr int width = kPackWidth<T>;
  void *first = address(static_cast<char *>(operands.results[k - I]), operands, k, row + at.first);
  if constexpr (is_float32<T>)
    if (!operands.is_native(k)) {
      PackOf<uint16_t, width> stored;
      if (operands.storage[k] == Storage::bfloat16)
        for (int j = 0; j < width; ++j) {
          BFloat16 bfloat16;
          convert(pack.element[j], bfloat16);
          stored.element[j] = bfloat16.bits;
        }
      else
        for (int j = 0; j < width; ++j) {
          Float16 float16;
          convert(pack.element[j], float16);
          stored.element[j] = float16.bits;
        }
      return store(static_cast<uint16_t *>(first), at, stored);
    }
  store(static_cast<T *>(first), at, pack);
}

// A pack of step times the part of a that is orthogonal to b.
template <class T>
__device__ __forceinline__ Pack<T> elements(const Orthogonal<T> &part, T step, const Pack<T> &a,
                                            const Pack<T> &b) {
  Pack<T> out;
  for (int k = 0; k < kPackWidth<T>; ++k)
    out.element[k] = step * part.exact_element(a.element[k], b.element[k]);
  return out;
}

enum class Pass { first, second };           // over a row: for its sums, then for its results
enum class Phase { rows, part_sums, parts }; // one launch for whole rows, or two for their parts

// The part of a kernel that reads two operands of vectors, x and mu.
template <class Arguments, class Element, int x_operand, int mu_operand> struct ReadsXAndMu {
  using T = Element;
  static constexpr Layout kUnalignedLayout = Layout::strided;
  static constexpr bool kMaySum = false;
  Arguments args;

  struct Row {
    int64_t x;  // where the row of the operand begins
    int64_t mu; // likewise
  };
  struct Held {
    Pack<T> x;
    Pack<T> mu;
  };
  struct Stored {
    BitsOf<T> x;
    BitsOf<T> mu;
  };
  __device__ __forceinline__ Stored load(const Row &row, const Place &at, Pass) const {
    return {spherical::load(args.operands, x_operand, row.x, at),
            spherical::load(args.operands, mu_operand, row.mu, at)};
  }
  __device__ __forceinline__ Held held(const Row &, const Place &at, const Stored &stored,
                                       Pass) const {
    return {numbers(args.operands, x_operand, at.layout, stored.x),
            numbers(args.operands, mu_operand, at.layout, stored.mu)};
  }
  __device__ void keep(const Row &, const Place &, const Held &) const {}
};

template <class T> struct Work {
  RowPlan plan;
  Phase phase;
  int64_t items; // rows, or parts of them
  T *part_sums;  // [n, parts, kSums]: from the first launch to the second
  Counter counter;
};

// One team at work on one row, or on a part of it.
template <class Kernel> struct RowWorker {
  using T = typename Kernel::T;
  static constexpr int kSums = Kernel::kSums;
  const Kernel &kernel;
  const Work<T> &work;
  const Team &team;
  const Item item;
  const typename Kernel::Row row;
  typename Kernel::Held held[kPacks]; // the chunk read last

  __device__ __forceinline__ Place place(int64_t chunk, int q) const {
    return work.plan.place(chunk, team.rank, q);
  }

  // Reads a chunk. All loads are under way before the first is waited for.
  __device__ __forceinline__ void read(int64_t chunk, Pass pass) {
    typename Kernel::Stored stored[kPacks];
#pragma unroll
    for (int q = 0; q < kPacks; ++q)
      stored[q] = kernel.load(row, place(chunk, q), pass);
#pragma unroll
    for (int q = 0; q < kPacks; ++q)
      held[q] = kernel.held(row, place(chunk, q), stored[q], pass);
  }

  // Adds this thread's terms of part p of the row: those of a pack, then pack by pack.
  __device__ __forceinline__ void add(int32_t p, T (&sums)[kSums]) {
    int64_t chunk = work.plan.begin(p);
#pragma unroll 1
    for (int c = 0; c < kChunksPerPart && chunk < work.plan.d; ++c, chunk += work.plan.chunk()) {
      read(chunk, Pass::first);
      if (!work.plan.resident)
#pragma unroll
        for (int q = 0; q < kPacks; ++q)
          kernel.keep(row, place(chunk, q), held[q]);
#pragma unroll
      for (int q = 0; q < kPacks; ++q) {
        T pack_sums[kSums] = {};
        for (int k = 0; k < kPackWidth<T>; ++k) {
          T out[kSums];
          kernel.terms(held[q], k, out);
          for (int s = 0; s < kSums; ++s)
            pack_sums[s] += out[s];
        }
        for (int s = 0; s < kSums; ++s)
          sums[s] += pack_sums[s];
      }
    }
  }
  // The same for other sums. terms(held, k, out) gives the terms of element k of a pack. Packs are
  // read one by one, since registers are few.
  template <class S, int N, class Terms>
  __device__ __forceinline__ void add_again(int32_t p, S (&sums)[N], const Terms &terms) {
    int64_t chunk = work.plan.begin(p);
#pragma unroll 1
    for (int c = 0; c < kChunksPerPart && chunk < work.plan.d; ++c, chunk += work.plan.chunk())
#pragma unroll 1
      for (int q = 0; q < kPacks; ++q) {
        const Place at = place(chunk, q);
        const auto pack = kernel.held(row, at, kernel.load(row, at, Pass::second), Pass::second);
        for (int k = 0; k < kPackWidth<T>; ++k) {
          S out[N];
          terms(pack, k, out);
          for (int s = 0; s < N; ++s)
            sums[s] += out[s];
        }
      }
  }

  template <class Scalars>
  __device__ __forceinline__ void write(int64_t begin, int64_t end, const Scalars &scalars) {
    for (int64_t chunk = begin; chunk < end; chunk += work.plan.chunk()) {
      if (!work.plan.resident)
        read(chunk, Pass::second);
#pragma unroll
      for (int q = 0; q < kPacks; ++q)
        kernel.write(row, place(chunk, q), held[q], scalars);
    }
  }

  // The sums over parts [first, last) of the row, in every thread; add(p, sums) adds this thread's
  // terms. Thread r of the team adds parts r, r + size, ..., then a tree adds the threads.
  // sum_of_part_sums does the same, so both give the same bits.
  template <class S, int N, class Add>
  __device__ __forceinline__ void sum_parts(int32_t first, int32_t last, S (&sums)[N],
                                            const Add &add) {
    const bool one = last - first == 1;
    for (int32_t p = first; p < last; ++p) {
      S part[N] = {};
      add(p, part);
      team.sum(part);
      if (one || p % team.size == team.rank)
        for (int s = 0; s < N; ++s)
          sums[s] += part[s];
    }
    if (!one)
      team.sum(sums);
  }
  __device__ __forceinline__ void sum_by_reading(T (&sums)[kSums]) {
    sum_parts(item.first, item.last, sums, [this](int32_t p, T(&part)[kSums]) { add(p, part); });
  }
  // Further sums over the row, of terms that need its first sums. Such rows are rare. All threads of
  // the team call it, or none. Each team that has a part of a split row sums the whole row, so few
  // rows may need that.
  template <class S, int N, class Terms>
  __device__ __forceinline__ void sum_again(S (&sums)[N], const Terms &terms) {
    for (int s = 0; s < N; ++s)
      sums[s] = 0;
    sum_parts(0, work.plan.parts, sums,
              [&, this](int32_t p, S(&part)[N]) { add_again(p, part, terms); });
    // The chunk that was held is read again, so that its registers are free until here.
    read(work.plan.begin(item.first), Pass::second);
  }
  __device__ __forceinline__ void sum_of_part_sums(T (&sums)[kSums]) {
    for (int32_t p = team.rank; p < work.plan.parts; p += team.size)
      for (int s = 0; s < kSums; ++s)
        sums[s] += part_sums(p)[s];
    team.sum(sums);
  }

  __device__ __forceinline__ T *part_sums(int32_t p) const {
    return work.part_sums + (item.row * work.plan.parts + p) * kSums;
  }

  // Sets `last` where this thread is to write the scalars of the row.
  __device__ __forceinline__ void run(bool is_mine, typename Kernel::Last &last) {
    if (item.first > 0 && work.phase == Phase::parts && !kernel.writes())
      return;
    T sums[kSums] = {};
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
    if (is_mine)
      last = kernel.last(sums, scalars);
    if (kernel.writes())
      write(work.plan.begin(item.first), work.plan.begin(item.last), scalars);
  }
};

// Adds up what the rows of all blocks have added, in an order that the number of blocks decides. The
// block that ends last adds up the blocks.
template <class Kernel, class T>
__device__ __forceinline__ void sum_rows(const Kernel &kernel, const Work<T> &work, T of_thread) {
  const Team block = Team::of_block(work.plan);
  T sum[1] = {of_thread};
  block.sum(sum);
  static __shared__ bool is_last;
  if (block.rank == 0) {
    kernel.block_sums()[blockIdx.x] = sum[0];
    is_last = ends_last(work.counter);
  }
  __syncthreads();
  if (!is_last)
    return;
  double total[1] = {};
  for (unsigned b = threadIdx.x; b < gridDim.x; b += blockDim.x)
    total[0] += kernel.block_sums()[b];
  block.sum(total);
  if (block.rank == 0)
    kernel.write_sum(total[0]);
}

template <class Kernel>
__global__ void __launch_bounds__(kMaxTeam<typename Kernel::T>, Kernel::kMinBlocks)
    for_each_row(const __grid_constant__ Kernel kernel,
                 const __grid_constant__ Work<typename Kernel::T> work) {
  const RowPlan &plan = work.plan;
  const Team team = Team::of(plan);
  const auto item_at = [&](int64_t i) {
    return work.phase == Phase::rows ? plan.row(i) : plan.part(i);
  };
  typename Kernel::T sum = 0;
  for (int64_t first = blockIdx.x * plan.items_of_block() + team.index; first < work.items;
       first += gridDim.x * plan.items_of_block()) {
    typename Kernel::Last last;
#pragma unroll 1
    for (int r = 0; r < plan.rows; ++r) {
      const int64_t i = first + r * plan.teams;
      if (i >= work.items)
        break;
      const Item item = item_at(i);
      RowWorker<Kernel>{kernel, work, team, item, kernel.row(item.row), {}}.run(r == team.rank,
                                                                                last);
    }
    const int64_t mine = first + team.rank * plan.teams;
    if (team.rank >= plan.rows || mine >= work.items || work.phase == Phase::part_sums)
      continue;
    const Item item = item_at(mine);
    if (item.first > 0)
      continue;
    if constexpr (Kernel::kMaySum)
      sum += kernel.write_scalar(kernel.row(item.row), item.row, last);
    else
      kernel.write_scalar(kernel.row(item.row), item.row, last);
  }
  if constexpr (Kernel::kMaySum)
    if (kernel.sums_rows())
      sum_rows(kernel, work, sum);
}

// The gradient of an expanded vector has a row for each of the batch; torch sums them.
inline void require_no_sums(const Sums &sums) {
  if (sums.terms != 1)
    fail("CUDA kernels do not sum the gradient of an expanded vector");
}

// Runs the kernel over all rows.
template <class Kernel> void launch_rows(const Kernel &kernel) {
  for (const Storage storage : kernel.args.operands.storage)
    if (!is_float32<typename Kernel::T> && storage != Storage::native)
      fail("CUDA kernels that compute in float64 take float64 vectors alone");
  using T = typename Kernel::T;
  const Layout layout =
      kernel.args.is_aligned(kPackWidth<T>) ? Layout::wide : Kernel::kUnalignedLayout;
  const RowPlan plan =
      plan_rows<T>(kernel.args.operands.rows.n, kernel.args.operands.rows.d, layout);
  const int32_t device = kernel.args.device;
  Counter counter = 0;
  bool sums_rows = false;
  if constexpr (Kernel::kMaySum)
    if ((sums_rows = kernel.sums_rows()))
      counter = next_counter(device);
  const auto run = [&](Phase phase, int64_t items, T *part_sums) {
    const int64_t blocks =
        std::max<int64_t>(plan.blocks(items), sums_rows); // a sum of no rows is 0
    launch(device, for_each_row<Kernel>, blocks, plan.threads(), kernel,
           Work<T>{plan, phase, items, part_sums, counter});
  };
  if (!Kernel::kMaySplit || !plan.is_split())
    return run(Phase::rows, plan.n, nullptr);
  const int64_t parts = plan.n * plan.parts;
  Tensor sums = new_array<T>(device, parts * Kernel::kSums);
  run(Phase::part_sums, parts, sums.template out<T>());
  run(Phase::parts, parts, sums.template out<T>());
}

} // namespace spherical
