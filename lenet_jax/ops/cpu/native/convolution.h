// The convolution.
#pragma once

#include "columns.h"
#include "correlate.h"
#include "depthwise.h"
#include "packing.h"
#include "scratch.h"
#include "shape.h"

namespace lenet_jax::LENET_JAX_INSTRUCTION_SET {

// A tile reads each weight once for all its positions: where rows are short, the images are the better last axis.
inline void put_columns_last(Axis (&axes)[4]) {
  constexpr int kShortRow = 4;
  if (axes[3].outputs < kShortRow && axes[0].outputs > axes[3].outputs) std::rotate(axes, axes + 1, axes + 4);
}

inline Correlation make_correlation(const Axis (&axes)[4], int channels, int kernels) {
  Correlation correlation;
  std::copy(axes, axes + 4, correlation.axes);
  put_columns_last(correlation.axes);
  correlation.channels = channels;
  correlation.kernels = kernels;
  return correlation;
}

template <class T>
Panels choose_panels(const Correlation& correlation, int groups) {
  int vectors = choose_vectors<T>(correlation.kernels, correlation.columns().outputs);
  // With one tap little is done with each input: wide tiles read it less often.
  if (kRegisters >= 32 && correlation.num_taps() == 1 && correlation.kernels % (kMostVectors * kLanes<T>) == 0)
    vectors = kMostVectors;
  return make_panels<T>(groups, correlation.kernels, correlation.num_taps() * correlation.channels, vectors);
}

template <class T>
void dense_convolution(Pool& pool, const Convolution& shape, const T* x, const T* kernel, T* y) {
  static thread_local Scratch scratch;
  Axis axes[4];
  convolution_axes(shape, axes);
  const Correlation correlation =
      make_correlation(axes, shape.channels / shape.groups, shape.kernels / shape.groups);
  const Panels panels = choose_panels<T>(correlation, shape.groups);
  T* weights = scratch.get<T>(panels.size);
  pack(pool, panels, shape.groups, correlation.kernels, kernel, weights);
  correlate(pool, correlation, panels, x, weights, y);
}

template <class T>
void convolution(Pool& pool, const Convolution& shape, const T* x, const T* kernel, T* y) {
  if (is_depthwise(shape)) return depthwise_convolution(pool, shape, x, kernel, y);
  if (suits_columns<T>(shape, shape.kernels)) return convolution_along_columns(pool, shape, x, kernel, y);
  dense_convolution(pool, shape, x, kernel, y);
}

}  // namespace lenet_jax::LENET_JAX_INSTRUCTION_SET
