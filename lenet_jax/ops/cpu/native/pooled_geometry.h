// A convolution followed by max-pooling as its kernels see it: see pooled_support.h for what is allowed.
//
// The image that they read has `before` zeros and as many after as whole windows need, whether or not the map fills
// the last window: its size is rows * pool_height + kernel_height - 1 by columns * pool_width + kernel_width - 1.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstring>

#include "geometry.h"
#include "vector.h"

namespace lenet_jax::LENET_JAX_INSTRUCTION_SET {

struct Stage {
  int batch, height, width, channels;
  int kernel_height, kernel_width, kernels;
  int top, left;               // zeros before
  int map_height, map_width;   // the convolution's output
  int pool_height, pool_width;
  int rows, columns;           // the pooling's output

  // The numbers of one row of the kernel, consecutive in the kernel and in the image.
  int row_length() const { return kernel_width * channels; }
  int padded_height() const { return rows * pool_height + kernel_height - 1; }
  int padded_width() const { return columns * pool_width + kernel_width - 1; }
  int positions() const { return pool_height * pool_width; }
  bool reads_within_image() const {
    return top == 0 && left == 0 && padded_height() <= height && padded_width() <= width;
  }
};

inline Stage make_stage(const Convolution& convolution, const Window& pooling) {
  const Window& window = convolution.window;
  return {convolution.batch, convolution.space[1], convolution.space[2], convolution.channels,
          window.size[1],    window.size[2],       convolution.kernels,  window.before[1],
          window.before[2],  window.output[1],     window.output[2],     pooling.size[1],
          pooling.size[2],   pooling.output[1],    pooling.output[2]};
}

inline int divide_rounding_up(int a, int b) { return (a + b - 1) / b; }
inline int round_up(int a, int b) { return divide_rounding_up(a, b) * b; }

// Calls part(first, count) for parts of 0..whole-1 of at most `most` and of about one size.
template <class Part>
void in_parts(int whole, int most, Part part) {
  const int parts = divide_rounding_up(whole, most);
  for (int i = 0; i < parts; ++i) part(whole * i / parts, whole * (i + 1) / parts - whole * i / parts);
}

// Copies `length` numbers of row `row` of the padded image, from number `start` on, and zeros beyond its end.
inline void copy_padded_row(const Stage& stage, const float* image, int row, int start, int length, float* to) {
  const int height = row - stage.top;
  const int first = stage.left * stage.channels - start;  // where the image's row begins in `to`
  const int from = std::clamp(first, 0, length);
  const int until = std::clamp(first + stage.width * stage.channels, 0, length);
  if (height < 0 || height >= stage.height || from >= until) {
    std::memset(to, 0, length * sizeof(float));
    return;
  }
  const float* source = image + static_cast<std::ptrdiff_t>(height) * stage.width * stage.channels;
  constexpr int kWidth = kLanes<float>;
  std::fill(to, to + from, 0.0f);
  int i = from;
  for (; i + kWidth <= until; i += kWidth) store(to + i, load(source + (i - first)));
  store_first(to + i, load_first(source + (i - first), until - i), until - i);
  std::fill(to + until, to + length, 0.0f);
}

}  // namespace lenet_jax::LENET_JAX_INSTRUCTION_SET
