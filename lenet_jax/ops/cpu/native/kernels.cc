// All kernels of one instruction set.
#include "kernels.h"

#include "convolution.h"
#include "input_gradient.h"
#include "kernel_gradient.h"
#include "pooled_convolution.h"
#include "pooled_input_gradient.h"
#include "pooled_kernel_gradient.h"
#include "pooling.h"
#include "statistics.h"

namespace lenet_jax::LENET_JAX_INSTRUCTION_SET {

const Kernels kernels = {
    convolution<float>,     input_gradient<float>, kernel_gradient<float>, pooled_convolution, pooled_input_gradient,
    pooled_kernel_gradient, max_pool,              max_pool_gradient,      sum_pool,           sum_pool_gradient,
    channel_moments,        channel_sums,
};

}  // namespace lenet_jax::LENET_JAX_INSTRUCTION_SET
