// The gradient with respect to the input: for each phase of the strides, a correlation of dy with some of the taps.
#pragma once

#include <numeric>

#include "convolution.h"

namespace lenet_jax::LENET_JAX_INSTRUCTION_SET {

// The inputs first, first + stride, ... of one axis of a convolution, as the outputs of a correlation of dy.
struct Phase {
  Axis axis;
  int first;
  int last_tap, tap_stride;  // its taps are last_tap, last_tap - tap_stride, ... of the kernel
};

// Input p and tap a meet at output (p + before - a * dilation) / stride, if that is whole. So the inputs with
// (p + before) % stride == remainder share their taps.
inline Phase make_phase(const Axis& forward, int remainder) {
  const int common = std::gcd(forward.stride, forward.dilation);
  Phase phase;
  phase.tap_stride = forward.stride / common;
  phase.first = static_cast<int>(((remainder - forward.before) % forward.stride + forward.stride) % forward.stride);
  int first_tap = 0;
  while (first_tap < phase.tap_stride && (first_tap * static_cast<Index>(forward.dilation) - remainder) % forward.stride)
    ++first_tap;
  const bool has_taps = first_tap < phase.tap_stride && first_tap < forward.taps;
  Axis& axis = phase.axis;
  axis.outputs = static_cast<int>(std::max<Index>(0, ceil_div(forward.inputs - phase.first, forward.stride)));
  axis.inputs = forward.outputs;
  axis.taps = has_taps ? (forward.taps - 1 - first_tap) / phase.tap_stride + 1 : 0;
  axis.dilation = forward.dilation / common;
  phase.last_tap = first_tap + (axis.taps - 1) * phase.tap_stride;
  axis.before =
      -(phase.first + forward.before - static_cast<Index>(phase.last_tap) * forward.dilation) / forward.stride;
  axis.input_step = forward.output_step;
  axis.output_step = forward.input_step * forward.stride;
  return phase;
}

template <class T>
void input_gradient_phase(Pool& pool, const Convolution& shape, const Axis (&forward)[4], const int (&remainders)[3],
                          const T* dy, const T* kernel, T* dx) {
  static thread_local Scratch scratch;
  Correlation correlation;
  correlation.axes[0] = forward[0];
  std::swap(correlation.axes[0].input_step, correlation.axes[0].output_step);
  Phase phases[3];
  Index tap_step = 1;
  for (int i = 2; i >= 0; --i) {
    phases[i] = make_phase(forward[i + 1], remainders[i]);
    phases[i].axis.tap_step = tap_step;
    tap_step *= phases[i].axis.taps;
    correlation.axes[i + 1] = phases[i].axis;
    dx += phases[i].first * forward[i + 1].input_step;
  }
  std::vector<Index> taps;
  const auto source = [&](int i, int tap) {
    return (phases[i].last_tap - tap * phases[i].tap_stride) * forward[i + 1].tap_step;
  };
  for (int a = 0; a < phases[0].axis.taps; ++a)
    for (int b = 0; b < phases[1].axis.taps; ++b)
      for (int c = 0; c < phases[2].axis.taps; ++c) taps.push_back(source(0, a) + source(1, b) + source(2, c));
  put_columns_last(correlation.axes);
  correlation.channels = shape.kernels / shape.groups;
  correlation.kernels = shape.channels / shape.groups;
  const Panels panels = make_panels<T>(shape.groups, correlation.kernels, correlation.num_taps() * correlation.channels,
                                       choose_vectors<T>(correlation.kernels, correlation.columns().outputs));
  T* weights = scratch.get<T>(panels.size);
  pack_transposed(pool, panels, taps, shape.groups, correlation.kernels, correlation.channels, kernel, weights);
  correlate(pool, correlation, panels, dy, weights, dx);
}

template <class T>
void input_gradient(Pool& pool, const Convolution& shape, const T* dy, const T* kernel, T* dx) {
  Axis forward[4];
  convolution_axes(shape, forward);
  int remainders[3];
  for (remainders[0] = 0; remainders[0] < forward[1].stride; ++remainders[0])
    for (remainders[1] = 0; remainders[1] < forward[2].stride; ++remainders[1])
      for (remainders[2] = 0; remainders[2] < forward[3].stride; ++remainders[2])
        input_gradient_phase(pool, shape, forward, remainders, dy, kernel, dx);
}

}  // namespace lenet_jax::LENET_JAX_INSTRUCTION_SET
