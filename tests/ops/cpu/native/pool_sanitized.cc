// Runs the pooling kernels for random shapes, each array in memory of exactly its size, for a build with
// -fsanitize=address,undefined: it stops the program where a kernel reads or writes beyond an end.
#include <memory>
#include <random>

#include "pool_driver.cc"

namespace {

std::mt19937 generator(0);
int draw(int least, int most) { return std::uniform_int_distribution<int>(least, most)(generator); }

template <class T>
struct Array {
  explicit Array(std::size_t count) : memory(new T[count]) {
    for (std::size_t i = 0; i < count; ++i) memory[i] = static_cast<T>(draw(0, 3));
  }
  T* get() { return memory.get(); }
  std::unique_ptr<T[]> memory;
};

std::size_t size_of(const int size[3]) { return static_cast<std::size_t>(size[0]) * size[1] * size[2]; }

void run_pooled() {
  Convolution convolution{draw(0, 3), {1, 1, 1}, draw(1, 40), 1, draw(1, 70), {}};
  Window pooling{};
  Window& window = convolution.window;
  for (int axis = 0; axis < 3; ++axis) {
    window.strides[axis] = window.dilation[axis] = pooling.dilation[axis] = 1;
    window.size[axis] = axis ? draw(1, 6) : 1;
    window.before[axis] = axis ? draw(0, 2) : 0;
    pooling.size[axis] = pooling.strides[axis] = axis ? draw(1, 3) : 1;
    window.output[axis] = axis ? pooling.size[axis] + draw(0, 12) : 1;
    if (axis) convolution.space[axis] = std::max(1, window.output[axis] + window.size[axis] - 1 - draw(0, 3));
    pooling.output[axis] = (window.output[axis] + draw(0, 1) * (pooling.size[axis] - 1)) / pooling.size[axis];
  }
  if (!supports_pooled(&convolution, &pooling)) return;
  const std::size_t windows = size_of(pooling.output) * convolution.batch;
  Array<float> x(size_of(convolution.space) * convolution.batch * convolution.channels);
  Array<float> kernel(size_of(window.size) * convolution.channels * convolution.kernels), bias(convolution.kernels);
  Array<float> y(windows * convolution.kernels);
  Array<std::uint8_t> index(windows * convolution.kernels);
  pooled_convolution(2, &convolution, &pooling, draw(0, 2), x.get(), kernel.get(), bias.get(), y.get(), index.get());
  pooled_kernel_gradient(2, &convolution, &pooling, x.get(), y.get(), index.get(), kernel.get());
  pooled_input_gradient(2, &convolution, &pooling, y.get(), index.get(), kernel.get(), x.get());
}

void run_pools() {
  const int batch = draw(0, 3), channels = draw(1, 40), space[3] = {draw(1, 3), draw(1, 9), draw(1, 20)};
  Window pooling{};
  for (int axis = 0; axis < 3; ++axis) {
    pooling.size[axis] = draw(1, 4);
    pooling.strides[axis] = draw(1, 4);
    pooling.dilation[axis] = 1;
    pooling.before[axis] = draw(0, 3);
    pooling.output[axis] = draw(1, 8);
  }
  const std::size_t outputs = size_of(pooling.output) * batch * channels;
  Array<float> x(size_of(space) * batch * channels), y(outputs);
  Array<std::uint8_t> index(outputs);
  max_pool(2, batch, space, channels, &pooling, x.get(), y.get(), index.get());
  max_pool_gradient(2, batch, space, channels, &pooling, y.get(), index.get(), x.get());
  sum_pool(2, batch, space, channels, &pooling, x.get(), y.get());
  sum_pool_gradient(2, batch, space, channels, &pooling, y.get(), x.get());
}

}  // namespace

int main() {
  for (int i = 0; i < 150; ++i) {
    run_pooled();
    run_pools();
  }
}
