// One axis of a convolution: output i and tap a of the kernel meet at input i * stride + a * dilation - before.
#pragma once

#include <algorithm>
#include <cstddef>

#include "instruction_set.h"

namespace lenet_jax::LENET_JAX_INSTRUCTION_SET {

using Index = std::ptrdiff_t;

struct Range {
  int first, end;
  int size() const { return std::max(0, end - first); }
};

constexpr Index floor_div(Index a, Index b) { return a >= 0 ? a / b : -((-a + b - 1) / b); }
constexpr Index ceil_div(Index a, Index b) { return -floor_div(-a, b); }

// Part `part` of `parts` nearly equal ones of 0..count-1.
inline Range part_of(int count, int part, int parts) {
  return {static_cast<int>(static_cast<Index>(count) * part / parts),
          static_cast<int>(static_cast<Index>(count) * (part + 1) / parts)};
}

struct Axis {
  int outputs = 1, inputs = 1, taps = 1;
  int stride = 1, dilation = 1;
  Index before = 0;                                    // less than 0: the first inputs are left out
  Index input_step = 0, output_step = 0, tap_step = 0;  // from one to the next in memory; taps count rows of weights

  Index input(Index output, Index tap) const { return output * stride + tap * dilation - before; }

  // The taps that meet an input at this output.
  Range taps_inside(int output) const { return range(-input(output, 0), dilation, taps); }

  // The outputs at which this tap meets an input.
  Range outputs_inside(int tap) const { return range(-input(0, tap), stride, outputs); }

 private:
  // The i in 0..count-1 with 0 <= i * step - offset < inputs.
  Range range(Index offset, int step, int count) const {
    const Index first = std::clamp<Index>(ceil_div(offset, step), 0, count);
    const Index end = std::clamp<Index>(ceil_div(offset + inputs, step), first, count);
    return {static_cast<int>(first), static_cast<int>(end)};
  }
};

}  // namespace lenet_jax::LENET_JAX_INSTRUCTION_SET
