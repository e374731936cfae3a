// The gradient with respect to the input: for each phase of the strides, a correlation of dy with some of the taps.
#pragma once

#include "columns.h"
#include "convolution.h"
#include "depthwise.h"
#include "phases.h"

namespace lenet_jax::LENET_JAX_INSTRUCTION_SET {

// Gives the phase's taps, which are read from the kernel in `source`'s order, their places in the packed weights.
inline std::vector<Index> number_taps(Phase& phase) {
  Axis* axes = phase.axes;
  std::vector<Index> source;
  for (int a = 0; a < axes[1].taps; ++a)
    for (int b = 0; b < axes[2].taps; ++b)
      for (int c = 0; c < axes[3].taps; ++c)
        source.push_back(phase.first_tap + a * axes[1].tap_step + b * axes[2].tap_step + c * axes[3].tap_step);
  axes[3].tap_step = 1;
  axes[2].tap_step = axes[3].taps;
  axes[1].tap_step = static_cast<Index>(axes[2].taps) * axes[3].taps;
  return source;
}

template <class T>
void dense_input_gradient(Pool& pool, const Convolution& shape, const T* dy, const T* kernel, T* dx) {
  static thread_local Scratch scratch;
  Axis forward[4];
  convolution_axes(shape, forward);
  for (Phase& phase : make_phases(forward)) {
    const std::vector<Index> taps = number_taps(phase);
    const Correlation correlation =
        make_correlation(phase.axes, shape.kernels / shape.groups, shape.channels / shape.groups);
    const Panels panels = choose_panels<T>(correlation, shape.groups);
    T* weights = scratch.get<T>(panels.size);
    pack_transposed(pool, panels, taps, shape.groups, correlation.kernels, correlation.channels, kernel, weights);
    correlate(pool, correlation, panels, dy, weights, dx + phase.first_input);
  }
}

template <class T>
void input_gradient(Pool& pool, const Convolution& shape, const T* dy, const T* kernel, T* dx) {
  if (is_depthwise(shape)) return depthwise_input_gradient(pool, shape, dy, kernel, dx);
  if (suits_columns<T>(shape, shape.channels)) return input_gradient_along_columns(pool, shape, dy, kernel, dx);
  dense_input_gradient(pool, shape, dy, kernel, dx);
}

}  // namespace lenet_jax::LENET_JAX_INSTRUCTION_SET
