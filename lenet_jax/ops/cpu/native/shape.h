// The axes of a convolution as its caller describes it.
#pragma once

#include "axis.h"
#include "geometry.h"

namespace lenet_jax::LENET_JAX_INSTRUCTION_SET {

// The axes N, D, H and W, with steps in x and y; the batch is an axis with one tap.
inline void convolution_axes(const Convolution& shape, Axis (&axes)[4]) {
  const Window& window = shape.window;
  Index input_step = shape.channels, output_step = shape.kernels, tap_step = 1;
  for (int i = 2; i >= 0; --i) {
    Axis& axis = axes[i + 1];
    axis.outputs = window.output[i];
    axis.inputs = shape.space[i];
    axis.taps = window.size[i];
    axis.stride = window.strides[i];
    axis.dilation = window.dilation[i];
    axis.before = window.before[i];
    axis.input_step = input_step;
    axis.output_step = output_step;
    axis.tap_step = tap_step;
    input_step *= axis.inputs;
    output_step *= axis.outputs;
    tap_step *= axis.taps;
  }
  axes[0] = Axis();
  axes[0].outputs = axes[0].inputs = shape.batch;
  axes[0].input_step = input_step;
  axes[0].output_step = output_step;
}

}  // namespace lenet_jax::LENET_JAX_INSTRUCTION_SET
