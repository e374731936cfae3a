// The convolution.
#pragma once

#include "correlate.h"
#include "geometry.h"
#include "packing.h"
#include "scratch.h"

namespace lenet_jax::LENET_JAX_INSTRUCTION_SET {

// The axes (N, D, H, W) with steps of x and y; short rows are worse than many images, so then the batch is last.
inline void convolution_axes(const Convolution& shape, Axis (&axes)[4]) {
  const Window& window = shape.window;
  Index input_step = shape.channels, output_step = shape.kernels, tap_step = 1;
  for (int i = 2; i >= 0; --i) {
    Axis& axis = axes[i + 1];
    axis.outputs = window.output[i], axis.inputs = shape.space[i], axis.taps = window.size[i];
    axis.stride = window.strides[i], axis.dilation = window.dilation[i], axis.before = window.before[i];
    axis.input_step = input_step, axis.output_step = output_step, axis.tap_step = tap_step;
    input_step *= axis.inputs, output_step *= axis.outputs, tap_step *= axis.taps;
  }
  axes[0] = Axis();
  axes[0].outputs = axes[0].inputs = shape.batch;
  axes[0].input_step = input_step, axes[0].output_step = output_step;
}

inline void put_columns_last(Axis (&axes)[4]) {
  constexpr int kShortRow = 4;
  if (axes[3].outputs < kShortRow && axes[0].outputs > axes[3].outputs) std::rotate(axes, axes + 1, axes + 4);
}

template <class T>
void convolution(Pool& pool, const Convolution& shape, const T* x, const T* kernel, T* y) {
  static thread_local Scratch scratch;
  Correlation correlation;
  convolution_axes(shape, correlation.axes);
  put_columns_last(correlation.axes);
  correlation.channels = shape.channels / shape.groups;
  correlation.kernels = shape.kernels / shape.groups;
  const Panels panels = make_panels<T>(shape.groups, correlation.kernels, correlation.num_taps() * correlation.channels,
                                       choose_vectors<T>(correlation.kernels, correlation.columns().outputs));
  T* weights = scratch.get<T>(panels.size);
  pack(pool, panels, shape.groups, correlation.kernels, kernel, weights);
  correlate(pool, correlation, panels, x, weights, y);
}

}  // namespace lenet_jax::LENET_JAX_INSTRUCTION_SET
