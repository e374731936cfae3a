// All kernels of one instruction set.
#include "kernels.h"

#include "convolution.h"
#include "input_gradient.h"
#include "kernel_gradient.h"

namespace lenet_jax::LENET_JAX_INSTRUCTION_SET {

const Kernels kernels = {
    convolution<float>, input_gradient<float>, kernel_gradient<float>, nullptr, nullptr, nullptr, nullptr, nullptr,
    nullptr,            nullptr,
};

}  // namespace lenet_jax::LENET_JAX_INSTRUCTION_SET
