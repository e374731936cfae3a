// Transposes blocks of numbers in registers.
#pragma once

#include <algorithm>
#include <utility>

#include "axis.h"
#include "vector.h"

namespace lenet_jax::LENET_JAX_INSTRUCTION_SET {

// Lanes kFirst, kFirst + 1, ... of `a` and of `b` in turns.
template <class T, int kFirst, int... kLane>
LENET_JAX_INLINE Vector<T> interleave(Vector<T> a, Vector<T> b, std::integer_sequence<int, kLane...>) {
#if defined(__clang__)
  return __builtin_shufflevector(a, b, (kFirst + kLane / 2 + kLane % 2 * kLanes<T>)...);
#else
  typedef std::conditional_t<sizeof(T) == 4, std::int32_t, std::int64_t> Integer;
  return __builtin_shuffle(a, b, Vector<Integer>{(kFirst + kLane / 2 + kLane % 2 * kLanes<T>)...});
#endif
}

// Writes the transpose of the first `rows` rows of `columns` numbers, of each kLanes at most: `columns` rows of kLanes
// numbers, with zeros in place of missing rows.
template <class T>
void transpose(const T* from, Index from_step, int rows, int columns, T* to, Index to_step) {
  constexpr int kSize = kLanes<T>;
  constexpr auto kAll = std::make_integer_sequence<int, kSize>();
  Vector<T> block[kSize], next[kSize];
  LENET_JAX_UNROLL
  for (int i = 0; i < kSize; ++i) block[i] = i < rows ? load_first(from + i * from_step, columns) : Vector<T>{};
  LENET_JAX_UNROLL
  for (int done = 1; done < kSize; done *= 2) {  // each round interleaves the first half of the rows with the second
    LENET_JAX_UNROLL
    for (int i = 0; i < kSize / 2; ++i) {
      next[2 * i] = interleave<T, 0>(block[i], block[i + kSize / 2], kAll);
      next[2 * i + 1] = interleave<T, kSize / 2>(block[i], block[i + kSize / 2], kAll);
    }
    LENET_JAX_UNROLL
    for (int i = 0; i < kSize; ++i) block[i] = next[i];
  }
  LENET_JAX_UNROLL
  for (int i = 0; i < kSize; ++i)
    if (i < columns) store(to + i * to_step, block[i]);
}

}  // namespace lenet_jax::LENET_JAX_INSTRUCTION_SET
