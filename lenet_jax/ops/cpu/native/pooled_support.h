// Which convolutions with max-pooling the pooled_* kernels compute. For the bindings alone, not for the kernels: an
// inline function compiled for several instruction sets would be kept for one of them only.
#pragma once

#include "geometry.h"

namespace lenet_jax {

// Two spatial axes, stride 1, no dilation, no groups, any size, channels and padding; windows of the pooling that do
// not overlap (size == strides), are not padded before, and have at most 255 positions. The last window may be missing
// (floor) or cut (ceil).
inline bool supports_pooled(const Convolution& convolution, const Window& pooling) {
  const Window& window = convolution.window;
  if (convolution.groups != 1 || convolution.space[0] != 1) return false;
  if (window.size[0] != 1 || window.output[0] != 1) return false;
  if (window.before[0] != 0 || pooling.size[0] != 1 || pooling.output[0] != 1) return false;
  for (int axis = 0; axis < 3; ++axis) {
    if (window.strides[axis] != 1 || window.dilation[axis] != 1 || window.before[axis] < 0) return false;
    if (pooling.strides[axis] != pooling.size[axis] || pooling.before[axis] != 0) return false;
    if (pooling.size[axis] > 255 || pooling.output[axis] < 1) return false;
    // Every window has at least one position of the map.
    if ((pooling.output[axis] - 1) * pooling.size[axis] >= window.output[axis]) return false;
  }
  return pooling.size[1] * pooling.size[2] <= 255;
}

}  // namespace lenet_jax
