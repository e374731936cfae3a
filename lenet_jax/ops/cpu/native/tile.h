// The innermost loops: a tile of sums in registers, a few neighbouring outputs by a few vectors of channels.
#pragma once

#include <type_traits>

#include "axis.h"
#include "vector.h"

namespace lenet_jax::LENET_JAX_INSTRUCTION_SET {

constexpr int kMostVectors = 4;

// The most positions of a tile: its sums, one row of weights and one input fill the registers. More than 14 gain
// nothing.
constexpr int most_positions(int vectors) { return std::min(14, (kRegisters - vectors - 1) / vectors); }

template <class T, int kPositions, int kVectors>
struct Sums {
  Vector<T> at[kPositions][kVectors];
};

// Calls function(std::integral_constant<int, value>()), for 1 <= value <= kMost.
template <int kMost, class Function>
LENET_JAX_INLINE void with_constant(int value, Function function) {
  if constexpr (kMost > 1) {
    if (value < kMost) return with_constant<kMost - 1>(value, function);
  }
  function(std::integral_constant<int, kMost>());
}

// sums[p][v] += x[p * step + i] * weights[i][v] over i < length, for the positions kFirst <= p < kEnd.
template <int kFirst, int kEnd, class T, int kPositions, int kVectors>
LENET_JAX_INLINE void add_products(const T* x, Index step, const T* weights, Index length,
                                   Sums<T, kPositions, kVectors>& sums) {
  for (Index i = 0; i < length; ++i, ++x, weights += kVectors * kLanes<T>) {
    Vector<T> row[kVectors];
    LENET_JAX_UNROLL
    for (int v = 0; v < kVectors; ++v) row[v] = load(weights + v * kLanes<T>);
    LENET_JAX_UNROLL
    for (int p = kFirst; p < kEnd; ++p) {
      const Vector<T> input = broadcast(x[p * step]);
      LENET_JAX_UNROLL
      for (int v = 0; v < kVectors; ++v) sums.at[p][v] += input * row[v];
    }
  }
}

// A tap at the edge of the image has no input at some of a tile's positions. Sums stay in registers only if the
// compiler knows which, so there is one loop for each number of missing positions up to this; tiles are laid so that
// more do not occur (see row_tiles.h).
constexpr int kMostMissing = 4;

// add_products for the positions in `inside` alone, which lack at most kMostMissing, all of them first or all last.
template <class T, int kPositions, int kVectors>
LENET_JAX_INLINE void add_products_inside(Range inside, const T* x, Index step, const T* weights, Index length,
                                          Sums<T, kPositions, kVectors>& sums) {
  constexpr int kMost = std::min(kMostMissing, kPositions - 1);
  if (inside.size() == 0) return;
  if (inside.size() == kPositions) return add_products<0, kPositions>(x, step, weights, length, sums);
  if constexpr (kMost > 0) {
    if (inside.first > 0) {
      with_constant<kMost>(inside.first, [&](auto missing) {
        add_products<missing, kPositions>(x, step, weights, length, sums);
      });
    } else {
      with_constant<kMost>(kPositions - inside.end, [&](auto missing) {
        add_products<0, kPositions - missing>(x, step, weights, length, sums);
      });
    }
  }
}

// A row of the kernel that meets the image: where it is in the input, in the packed weights (in rows), and how many
// inputs and rows follow each other in both.
struct KernelRow {
  Index x, weights, length;
};

template <class T>
struct TileArguments {
  const KernelRow* rows;
  int num_rows;
  const T* x;  // at the tile's first position
  Index x_step;
  const T* weights;
  const Range* inside;  // for each tap of a row, the positions where it meets the image; null: all
  int taps, channels;
  Index tap_step;  // from one tap to the next in x
  T* y;
  Index y_step;
  int kernels;  // how many channels of y to write
};

// The outputs of one tile.
template <class T, int kPositions, int kVectors, bool kAtEdge>
void compute_tile(const TileArguments<T>& tile) {
  constexpr int kWidth = kVectors * kLanes<T>;
  Sums<T, kPositions, kVectors> sums{};
  for (int r = 0; r < tile.num_rows; ++r) {
    const T* x = tile.x + tile.rows[r].x;
    const T* weights = tile.weights + tile.rows[r].weights * kWidth;
    if constexpr (kAtEdge) {
      for (int tap = 0; tap < tile.taps; ++tap, x += tile.tap_step, weights += tile.channels * kWidth)
        add_products_inside(tile.inside[tap], x, tile.x_step, weights, tile.channels, sums);
    } else {
      add_products<0, kPositions>(x, tile.x_step, weights, tile.rows[r].length, sums);
    }
  }
  LENET_JAX_UNROLL
  for (int p = 0; p < kPositions; ++p) {
    LENET_JAX_UNROLL
    for (int v = 0; v < kVectors; ++v)
      store_first(tile.y + p * tile.y_step + v * kLanes<T>, sums.at[p][v], tile.kernels - v * kLanes<T>);
  }
}

template <class T>
void compute_tile(int positions, int vectors, const TileArguments<T>& tile) {
  with_constant<kMostVectors>(vectors, [&](auto num_vectors) {
    with_constant<most_positions(num_vectors)>(positions, [&](auto num_positions) {
      if (tile.inside)
        compute_tile<T, num_positions, num_vectors, true>(tile);
      else
        compute_tile<T, num_positions, num_vectors, false>(tile);
    });
  });
}

}  // namespace lenet_jax::LENET_JAX_INSTRUCTION_SET
