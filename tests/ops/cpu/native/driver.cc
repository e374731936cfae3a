// The kernels behind a C interface, on a number of threads of the caller's choice.
#include <thread>
#include <vector>

#include "kernels.h"

namespace {

using namespace lenet_jax;

class Threads : public Pool {
 public:
  explicit Threads(int count) : count_(count) {}
  ~Threads() override {
    for (std::thread& thread : threads_) thread.join();
  }
  int num_threads() const override { return count_; }
  void schedule(std::function<void()> task) override { threads_.emplace_back(task); }

 private:
  int count_;
  std::vector<std::thread> threads_;
};

// batch, space, channels, groups, kernels, size, strides, dilation, before, output
Convolution to_convolution(const int* numbers) {
  Convolution shape;
  shape.batch = *numbers++;
  for (int& n : shape.space) n = *numbers++;
  shape.channels = *numbers++, shape.groups = *numbers++, shape.kernels = *numbers++;
  Window& window = shape.window;
  for (auto* part : {&window.size, &window.strides, &window.dilation, &window.before, &window.output})
    for (int& n : *part) n = *numbers++;
  return shape;
}

const Kernels& kernels = LENET_JAX_INSTRUCTION_SET::kernels;

}  // namespace

extern "C" {
void convolution(int threads, const int* shape, const float* x, const float* kernel, float* y) {
  Threads pool(threads);
  kernels.convolution(pool, to_convolution(shape), x, kernel, y);
}
void input_gradient(int threads, const int* shape, const float* dy, const float* kernel, float* dx) {
  Threads pool(threads);
  kernels.input_gradient(pool, to_convolution(shape), dy, kernel, dx);
}
void kernel_gradient(int threads, const int* shape, const float* x, const float* dy, float* dkernel) {
  Threads pool(threads);
  kernels.kernel_gradient(pool, to_convolution(shape), x, dy, dkernel);
}
}
