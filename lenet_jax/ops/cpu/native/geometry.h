// What the kernels compute: shapes and options, checked by the bindings. Images are (N, D, H, W, C) and kernels
// (KD, KH, KW, C / groups, O), row-major; fewer spatial axes have leading ones of length 1.
#pragma once

#include <cstdint>

namespace lenet_jax {

struct Window {
  int size[3], strides[3], dilation[3];
  int before[3];  // zeros before each axis; those after it follow from the output's size
  int output[3];
};

struct Convolution {
  int batch;
  int space[3];
  int channels, groups, kernels;
  Window window;
};

}  // namespace lenet_jax
