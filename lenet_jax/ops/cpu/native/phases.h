// The gradient with respect to the input as correlations of dy. Input p and tap a meet at output
// (p + before - a * dilation) / stride, if that is whole: inputs with the same remainder share their taps.
#pragma once

#include <numeric>
#include <vector>

#include "axis.h"

namespace lenet_jax::LENET_JAX_INSTRUCTION_SET {

// A correlation whose inputs are the convolution's outputs, and its outputs some of the convolution's inputs.
struct Phase {
  Axis axes[4];           // tap_step is negative: the taps are those of the kernel, last one first
  Index first_input = 0;  // where its first input is
  Index first_tap = 0;    // which tap of the kernel its first one is
};

// Sets axis `i` of the phase to the inputs with (p + before) % stride == remainder.
inline void set_axis(Phase& phase, int i, const Axis& forward, int remainder) {
  const int common = std::gcd(forward.stride, forward.dilation), tap_stride = forward.stride / common;
  const int first = static_cast<int>(((remainder - forward.before) % forward.stride + forward.stride) % forward.stride);
  int tap = 0;  // the first one with a * dilation % stride == remainder, if there is one
  while (tap < tap_stride && (tap * static_cast<Index>(forward.dilation) - remainder) % forward.stride) ++tap;
  const bool has_taps = tap < tap_stride && tap < forward.taps;
  Axis& axis = phase.axes[i];
  axis.outputs = static_cast<int>(std::max<Index>(0, ceil_div(forward.inputs - first, forward.stride)));
  axis.inputs = forward.outputs;
  axis.taps = has_taps ? (forward.taps - 1 - tap) / tap_stride + 1 : 0;
  axis.dilation = forward.dilation / common;
  const Index last = tap + (axis.taps - 1) * static_cast<Index>(tap_stride);
  axis.before = (last * forward.dilation - first - forward.before) / forward.stride;
  axis.input_step = forward.output_step;
  axis.output_step = forward.input_step * forward.stride;
  axis.tap_step = -tap_stride * forward.tap_step;
  phase.first_input += first * forward.input_step;
  phase.first_tap += last * forward.tap_step;
}

// All phases; their outputs together are all inputs of the convolution.
inline std::vector<Phase> make_phases(const Axis (&forward)[4]) {
  std::vector<Phase> phases;
  for (int a = 0; a < forward[1].stride; ++a) {
    for (int b = 0; b < forward[2].stride; ++b) {
      for (int c = 0; c < forward[3].stride; ++c) {
        Phase phase;
        phase.axes[0] = forward[0];
        std::swap(phase.axes[0].input_step, phase.axes[0].output_step);
        set_axis(phase, 1, forward[1], a);
        set_axis(phase, 2, forward[2], b);
        set_axis(phase, 3, forward[3], c);
        phases.push_back(phase);
      }
    }
  }
  return phases;
}

}  // namespace lenet_jax::LENET_JAX_INSTRUCTION_SET
