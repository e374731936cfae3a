// The functions that each instruction set provides; the bindings call those of the best one that the processor has.
#pragma once

#include <cstdint>

#include "geometry.h"
#include "parallel.h"

namespace lenet_jax {

enum class Activation { kNone, kRelu, kTanh };

struct Kernels {
  // y (N, *output, O) = convolution of x with kernel.
  void (*convolution)(Pool&, const Convolution&, const float* x, const float* kernel, float* y);
  // dx = the gradient of sum(y * dy) with respect to x.
  void (*input_gradient)(Pool&, const Convolution&, const float* dy, const float* kernel, float* dx);
  // dkernel = the gradient of sum(y * dy) with respect to kernel.
  void (*kernel_gradient)(Pool&, const Convolution&, const float* x, const float* dy, float* dkernel);

  // y = activation(max_pool(convolution(x, kernel)) + bias), and in `index` the position of the largest value in each
  // window, row by row, the first of equal ones; a NaN is the largest value.
  void (*pooled_convolution)(Pool&, const Convolution&, const Window& pooling, Activation, const float* x,
                             const float* kernel, const float* bias, float* y, std::uint8_t* index);
  // The gradients of sum(max_pool(convolution(x, kernel)) * dy) with the positions in `index`.
  void (*pooled_input_gradient)(Pool&, const Convolution&, const Window& pooling, const float* dy,
                                const std::uint8_t* index, const float* kernel, float* dx);
  void (*pooled_kernel_gradient)(Pool&, const Convolution&, const Window& pooling, const float* x, const float* dy,
                                 const std::uint8_t* index, float* dkernel);

  // Pools over x (N, *space, C); `pooling.before` and the output's size say how much padding there is.
  void (*max_pool)(Pool&, int batch, const int space[3], int channels, const Window& pooling, const float* x, float* y,
                   std::uint8_t* index);
  void (*max_pool_gradient)(Pool&, int batch, const int space[3], int channels, const Window& pooling, const float* dy,
                            const std::uint8_t* index, float* dx);
  void (*sum_pool)(Pool&, int batch, const int space[3], int channels, const Window& pooling, const float* x, float* y);
  void (*sum_pool_gradient)(Pool&, int batch, const int space[3], int channels, const Window& pooling, const float* dy,
                            float* dx);

  // Over the rows of x (rows, C): mean and biased variance; and (2, C), the sums of y and of y * (x - center).
  void (*channel_moments)(Pool&, std::int64_t rows, int channels, const float* x, float* mean, float* variance);
  void (*channel_sums)(Pool&, std::int64_t rows, int channels, const float* y, const float* x, const float* center,
                       float* sums);
};

namespace avx512 {
extern const Kernels kernels;
}
namespace avx2 {
extern const Kernels kernels;
}
namespace baseline {
extern const Kernels kernels;
}

}  // namespace lenet_jax
