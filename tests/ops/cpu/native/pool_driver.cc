// Entry points for the tests of the pooling kernels: as in kernels.h, with plain arrays of numbers for the structures.
#include <cstdint>
#include <thread>
#include <vector>

#include "pooled_convolution.h"
#include "pooled_input_gradient.h"
#include "pooled_kernel_gradient.h"
#include "pooled_support.h"
#include "pooling.h"

namespace kernels = lenet_jax::LENET_JAX_INSTRUCTION_SET;
using lenet_jax::Convolution;
using lenet_jax::Window;

namespace {

// As many threads as a call asks for, one for each scheduled task.
class Threads : public lenet_jax::Pool {
 public:
  explicit Threads(int count) : count_(count) {}
  ~Threads() override {
    for (std::thread& thread : threads_) thread.join();
  }
  int num_threads() const override { return count_; }
  void schedule(std::function<void()> task) override { threads_.emplace_back(std::move(task)); }

 private:
  int count_;
  std::vector<std::thread> threads_;
};

}  // namespace

extern "C" {

int supports_pooled(const Convolution* convolution, const Window* pooling) {
  return lenet_jax::supports_pooled(*convolution, *pooling);
}
void pooled_convolution(int threads, const Convolution* convolution, const Window* pooling, int activation,
                        const float* x, const float* kernel, const float* bias, float* y, std::uint8_t* index) {
  Threads pool(threads);
  kernels::pooled_convolution(pool, *convolution, *pooling, static_cast<lenet_jax::Activation>(activation), x, kernel,
                              bias, y, index);
}
void pooled_input_gradient(int threads, const Convolution* convolution, const Window* pooling, const float* dy,
                           const std::uint8_t* index, const float* kernel, float* dx) {
  Threads pool(threads);
  kernels::pooled_input_gradient(pool, *convolution, *pooling, dy, index, kernel, dx);
}
void pooled_kernel_gradient(int threads, const Convolution* convolution, const Window* pooling, const float* x,
                            const float* dy, const std::uint8_t* index, float* dkernel) {
  Threads pool(threads);
  kernels::pooled_kernel_gradient(pool, *convolution, *pooling, x, dy, index, dkernel);
}
void max_pool(int threads, int batch, const int* space, int channels, const Window* pooling, const float* x, float* y,
              std::uint8_t* index) {
  Threads pool(threads);
  kernels::max_pool(pool, batch, space, channels, *pooling, x, y, index);
}
void max_pool_gradient(int threads, int batch, const int* space, int channels, const Window* pooling, const float* dy,
                       const std::uint8_t* index, float* dx) {
  Threads pool(threads);
  kernels::max_pool_gradient(pool, batch, space, channels, *pooling, dy, index, dx);
}
void sum_pool(int threads, int batch, const int* space, int channels, const Window* pooling, const float* x, float* y) {
  Threads pool(threads);
  kernels::sum_pool(pool, batch, space, channels, *pooling, x, y);
}
void sum_pool_gradient(int threads, int batch, const int* space, int channels, const Window* pooling, const float* dy,
                       float* dx) {
  Threads pool(threads);
  kernels::sum_pool_gradient(pool, batch, space, channels, *pooling, dy, dx);
}

}  // extern "C"
