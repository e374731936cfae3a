// The kernels as functions that XLA calls (its foreign function interface). Shapes are checked here, and only here: a
// wrong one is an error of the program's step, never a read or write beyond an array.
#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <string>

#include "kernels.h"
#include "xla/ffi/api/ffi.h"

namespace ffi = xla::ffi;

namespace lenet_jax {
namespace {

using Floats = ffi::Buffer<ffi::F32>;
using Indices = ffi::Buffer<ffi::U8>;
using Integers = ffi::Span<const int64_t>;

class XlaPool : public Pool {
 public:
  explicit XlaPool(ffi::ThreadPool& pool) : pool_(pool) {}
  int num_threads() const override { return static_cast<int>(pool_.num_threads()); }
  void schedule(std::function<void()> task) override { pool_.Schedule(std::move(task)); }

 private:
  ffi::ThreadPool& pool_;
};

bool is_supported(const std::string& name) {
  if (name == "baseline") return true;
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (name == "avx2") return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  if (name == "avx512") {
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  }
#endif
  return false;
}

const Kernels* find_kernels(const std::string& name) {
#if defined(__x86_64__)
  if (name == "avx512") return &avx512::kernels;
  if (name == "avx2") return &avx2::kernels;
#endif
  return &baseline::kernels;
}

const Kernels* chosen = &baseline::kernels;

// Images (N, *space, C) with leading axes of length 1 for a missing depth and height.
struct Images {
  int batch, space[3], channels;

  explicit Images(ffi::Span<const int64_t> shape) {
    const int missing = 5 - static_cast<int>(shape.size());
    batch = static_cast<int>(shape.front());
    channels = static_cast<int>(shape.back());
    for (int axis = 0; axis < 3; ++axis) space[axis] = axis < missing ? 1 : static_cast<int>(shape[axis + 1 - missing]);
  }
};

Window to_window(Integers numbers) {
  Window window;
  int* const fields[] = {window.size, window.strides, window.dilation, window.before, window.output};
  for (int field = 0; field < 5; ++field)
    for (int axis = 0; axis < 3; ++axis) fields[field][axis] = static_cast<int>(numbers[3 * field + axis]);
  return window;
}

int64_t product(std::initializer_list<int64_t> numbers) {
  int64_t result = 1;
  for (int64_t number : numbers) result *= number;
  return result;
}

int64_t volume(const int axes[3]) { return product({axes[0], axes[1], axes[2]}); }

// 0 of an array without axes.
int64_t last(ffi::Span<const int64_t> shape) { return shape.size() ? shape.back() : 0; }

ffi::Error wrong(const char* what) { return ffi::Error::InvalidArgument(std::string("lenet_jax: ") + what); }

// Whether the first number of every window and its position can be counted without reading beyond the images: the
// kernels leave out what lies in padding, so any window is safe as long as the sizes are positive.
bool is_valid(const Window& window) {
  for (int axis = 0; axis < 3; ++axis) {
    if (window.size[axis] < 1 || window.strides[axis] < 1 || window.dilation[axis] < 1) return false;
    if (window.output[axis] < 0) return false;
  }
  return true;
}

struct Problem {
  Convolution convolution;
  Window pooling;  // of one position without a pooling
  ffi::Error error = ffi::Error::Success();
};

Problem check(ffi::Span<const int64_t> x, int64_t kernel, int64_t num_kernels, int64_t y, Integers window,
              Integers pooling, int64_t groups) {
  Problem problem;
  if (x.size() < 3 || x.size() > 5 || window.size() != 15 || (pooling.size() != 15 && pooling.size() != 0)) {
    problem.error = wrong("an array or a window has a wrong number of axes");
    return problem;
  }
  const Images images(x);
  Convolution& convolution = problem.convolution;
  convolution = {images.batch, {images.space[0], images.space[1], images.space[2]}, images.channels,
                 static_cast<int>(groups), static_cast<int>(num_kernels), to_window(window)};
  const bool has_pooling = pooling.size() > 0;
  if (has_pooling) problem.pooling = to_window(pooling);
  if (groups < 1 || images.channels % groups || num_kernels % groups || !is_valid(convolution.window) ||
      (has_pooling && (!is_valid(problem.pooling) || volume(problem.pooling.size) > 255))) {
    problem.error = wrong("a window or the number of groups is out of its range");
    return problem;
  }
  const int* maps = has_pooling ? problem.pooling.output : convolution.window.output;
  if (kernel != volume(convolution.window.size) * (images.channels / groups) * num_kernels ||
      y != images.batch * volume(maps) * num_kernels) {
    problem.error = wrong("the shapes of images, kernel and maps do not fit together");
  }
  return problem;
}

ffi::Error convolve(ffi::ThreadPool threads, Floats x, Floats kernel, ffi::Result<Floats> y, Integers window,
                    int64_t groups) {
  const Problem problem = check(x.dimensions(), kernel.element_count(), last(kernel.dimensions()),
                                y->element_count(), window, {}, groups);
  if (problem.error.failure()) return problem.error;
  XlaPool pool(threads);
  chosen->convolution(pool, problem.convolution, x.typed_data(), kernel.typed_data(), y->typed_data());
  return ffi::Error::Success();
}

ffi::Error input_gradient(ffi::ThreadPool threads, Floats dy, Floats kernel, ffi::Result<Floats> dx, Integers window,
                          int64_t groups) {
  const Problem problem = check(dx->dimensions(), kernel.element_count(), last(kernel.dimensions()),
                                dy.element_count(), window, {}, groups);
  if (problem.error.failure()) return problem.error;
  XlaPool pool(threads);
  chosen->input_gradient(pool, problem.convolution, dy.typed_data(), kernel.typed_data(), dx->typed_data());
  return ffi::Error::Success();
}

ffi::Error kernel_gradient(ffi::ThreadPool threads, Floats x, Floats dy, ffi::Result<Floats> dkernel, Integers window,
                           int64_t groups) {
  const Problem problem = check(x.dimensions(), dkernel->element_count(), last(dkernel->dimensions()),
                                dy.element_count(), window, {}, groups);
  if (problem.error.failure()) return problem.error;
  XlaPool pool(threads);
  chosen->kernel_gradient(pool, problem.convolution, x.typed_data(), dy.typed_data(), dkernel->typed_data());
  return ffi::Error::Success();
}

ffi::Error pooled_convolution(ffi::ThreadPool threads, Floats x, Floats kernel, Floats bias, ffi::Result<Floats> y,
                              ffi::Result<Indices> index, Integers window, Integers pooling, int64_t activation) {
  const Problem problem = check(x.dimensions(), kernel.element_count(), last(kernel.dimensions()),
                                y->element_count(), window, pooling, 1);
  if (problem.error.failure()) return problem.error;
  if (static_cast<int64_t>(bias.element_count()) != problem.convolution.kernels ||
      index->element_count() != y->element_count()) {
    return wrong("the bias needs a number for each kernel, and the indices the shape of the maps");
  }
  XlaPool pool(threads);
  chosen->pooled_convolution(pool, problem.convolution, problem.pooling, static_cast<Activation>(activation),
                             x.typed_data(), kernel.typed_data(), bias.typed_data(), y->typed_data(),
                             index->typed_data());
  return ffi::Error::Success();
}

ffi::Error pooled_input_gradient(ffi::ThreadPool threads, Floats dy, Indices index, Floats kernel,
                                 ffi::Result<Floats> dx, Integers window, Integers pooling) {
  const Problem problem = check(dx->dimensions(), kernel.element_count(), last(kernel.dimensions()),
                                dy.element_count(), window, pooling, 1);
  if (problem.error.failure()) return problem.error;
  if (index.element_count() != dy.element_count()) return wrong("the indices need the shape of the maps");
  XlaPool pool(threads);
  chosen->pooled_input_gradient(pool, problem.convolution, problem.pooling, dy.typed_data(), index.typed_data(),
                                kernel.typed_data(), dx->typed_data());
  return ffi::Error::Success();
}

ffi::Error pooled_kernel_gradient(ffi::ThreadPool threads, Floats x, Floats dy, Indices index,
                                  ffi::Result<Floats> dkernel, Integers window, Integers pooling) {
  const Problem problem = check(x.dimensions(), dkernel->element_count(), last(dkernel->dimensions()),
                                dy.element_count(), window, pooling, 1);
  if (problem.error.failure()) return problem.error;
  if (index.element_count() != dy.element_count()) return wrong("the indices need the shape of the maps");
  XlaPool pool(threads);
  chosen->pooled_kernel_gradient(pool, problem.convolution, problem.pooling, x.typed_data(), dy.typed_data(),
                                 index.typed_data(), dkernel->typed_data());
  return ffi::Error::Success();
}

// A pooling is checked as a convolution of each channel with one kernel.
Problem check_pool(ffi::Span<const int64_t> x, int64_t y, Integers window) {
  Problem problem;
  if (window.size() != 15 || last(x) == 0) {
    problem.error = wrong("a window has a wrong number of axes, or the images have no channels");
    return problem;
  }
  return check(x, volume(to_window(window).size) * x.back(), x.back(), y, window, {}, x.back());
}

ffi::Error max_pool(ffi::ThreadPool threads, Floats x, ffi::Result<Floats> y, ffi::Result<Indices> index,
                    Integers window) {
  const Problem problem = check_pool(x.dimensions(), y->element_count(), window);
  if (problem.error.failure()) return problem.error;
  const Convolution& c = problem.convolution;
  if (index->element_count() != y->element_count()) return wrong("the indices need the shape of the maps");
  if (volume(c.window.size) > 255) return wrong("a window of a max-pool has at most 255 positions");
  XlaPool pool(threads);
  chosen->max_pool(pool, c.batch, c.space, c.channels, c.window, x.typed_data(), y->typed_data(), index->typed_data());
  return ffi::Error::Success();
}

ffi::Error max_pool_gradient(ffi::ThreadPool threads, Floats dy, Indices index, ffi::Result<Floats> dx,
                             Integers window) {
  const Problem problem = check_pool(dx->dimensions(), dy.element_count(), window);
  if (problem.error.failure()) return problem.error;
  const Convolution& c = problem.convolution;
  if (index.element_count() != dy.element_count()) return wrong("the indices need the shape of the maps");
  XlaPool pool(threads);
  chosen->max_pool_gradient(pool, c.batch, c.space, c.channels, c.window, dy.typed_data(), index.typed_data(),
                            dx->typed_data());
  return ffi::Error::Success();
}

ffi::Error sum_pool(ffi::ThreadPool threads, Floats x, ffi::Result<Floats> y, Integers window) {
  const Problem problem = check_pool(x.dimensions(), y->element_count(), window);
  if (problem.error.failure()) return problem.error;
  const Convolution& c = problem.convolution;
  XlaPool pool(threads);
  chosen->sum_pool(pool, c.batch, c.space, c.channels, c.window, x.typed_data(), y->typed_data());
  return ffi::Error::Success();
}

ffi::Error sum_pool_gradient(ffi::ThreadPool threads, Floats dy, ffi::Result<Floats> dx, Integers window) {
  const Problem problem = check_pool(dx->dimensions(), dy.element_count(), window);
  if (problem.error.failure()) return problem.error;
  const Convolution& c = problem.convolution;
  XlaPool pool(threads);
  chosen->sum_pool_gradient(pool, c.batch, c.space, c.channels, c.window, dy.typed_data(), dx->typed_data());
  return ffi::Error::Success();
}

ffi::Error channel_moments(ffi::ThreadPool threads, Floats x, ffi::Result<Floats> mean, ffi::Result<Floats> variance) {
  const int64_t channels = last(x.dimensions()), count = x.element_count();
  if (channels == 0 || static_cast<int64_t>(mean->element_count()) != channels ||
      static_cast<int64_t>(variance->element_count()) != channels) {
    return wrong("mean and variance need a number for each channel");
  }
  XlaPool pool(threads);
  chosen->channel_moments(pool, count / channels, static_cast<int>(channels), x.typed_data(), mean->typed_data(),
                          variance->typed_data());
  return ffi::Error::Success();
}

ffi::Error channel_sums(ffi::ThreadPool threads, Floats y, Floats x, Floats center, ffi::Result<Floats> sums) {
  const int64_t channels = last(x.dimensions()), count = x.element_count();
  if (channels == 0 || static_cast<int64_t>(y.element_count()) != count ||
      static_cast<int64_t>(center.element_count()) != channels ||
      static_cast<int64_t>(sums->element_count()) != 2 * channels) {
    return wrong("y needs the shape of x, the center a number for each channel, the sums two");
  }
  XlaPool pool(threads);
  chosen->channel_sums(pool, count / channels, static_cast<int>(channels), y.typed_data(), x.typed_data(),
                       center.typed_data(), sums->typed_data());
  return ffi::Error::Success();
}

}  // namespace

#pragma GCC visibility push(default)

// Uses the kernels of an instruction set, "avx512", "avx2" or "baseline"; returns whether the processor has it.
extern "C" bool lenet_jax_use(const char* instruction_set) {
  if (!is_supported(instruction_set)) return false;
  chosen = find_kernels(instruction_set);
  return true;
}

// The version of the interface that this library was built for.
extern "C" int lenet_jax_ffi_minor_version() { return XLA_FFI_API_MINOR; }

#define LENET_JAX_HANDLER(symbol, function, binding) \
  XLA_FFI_DEFINE_HANDLER_SYMBOL(symbol, function, binding)

#define LENET_JAX_BIND ffi::Ffi::Bind().Ctx<ffi::ThreadPool>()

LENET_JAX_HANDLER(lenet_jax_convolution, convolve,
                  LENET_JAX_BIND.Arg<Floats>().Arg<Floats>().Ret<Floats>().Attr<Integers>("window").Attr<int64_t>(
                      "groups"));
LENET_JAX_HANDLER(lenet_jax_input_gradient, input_gradient,
                  LENET_JAX_BIND.Arg<Floats>().Arg<Floats>().Ret<Floats>().Attr<Integers>("window").Attr<int64_t>(
                      "groups"));
LENET_JAX_HANDLER(lenet_jax_kernel_gradient, kernel_gradient,
                  LENET_JAX_BIND.Arg<Floats>().Arg<Floats>().Ret<Floats>().Attr<Integers>("window").Attr<int64_t>(
                      "groups"));
LENET_JAX_HANDLER(lenet_jax_pooled_convolution, pooled_convolution,
                  LENET_JAX_BIND.Arg<Floats>()
                      .Arg<Floats>()
                      .Arg<Floats>()
                      .Ret<Floats>()
                      .Ret<Indices>()
                      .Attr<Integers>("window")
                      .Attr<Integers>("pooling")
                      .Attr<int64_t>("activation"));
LENET_JAX_HANDLER(lenet_jax_pooled_input_gradient, pooled_input_gradient,
                  LENET_JAX_BIND.Arg<Floats>()
                      .Arg<Indices>()
                      .Arg<Floats>()
                      .Ret<Floats>()
                      .Attr<Integers>("window")
                      .Attr<Integers>("pooling"));
LENET_JAX_HANDLER(lenet_jax_pooled_kernel_gradient, pooled_kernel_gradient,
                  LENET_JAX_BIND.Arg<Floats>()
                      .Arg<Floats>()
                      .Arg<Indices>()
                      .Ret<Floats>()
                      .Attr<Integers>("window")
                      .Attr<Integers>("pooling"));
LENET_JAX_HANDLER(lenet_jax_max_pool, max_pool,
                  LENET_JAX_BIND.Arg<Floats>().Ret<Floats>().Ret<Indices>().Attr<Integers>("window"));
LENET_JAX_HANDLER(lenet_jax_max_pool_gradient, max_pool_gradient,
                  LENET_JAX_BIND.Arg<Floats>().Arg<Indices>().Ret<Floats>().Attr<Integers>("window"));
LENET_JAX_HANDLER(lenet_jax_sum_pool, sum_pool, LENET_JAX_BIND.Arg<Floats>().Ret<Floats>().Attr<Integers>("window"));
LENET_JAX_HANDLER(lenet_jax_sum_pool_gradient, sum_pool_gradient,
                  LENET_JAX_BIND.Arg<Floats>().Ret<Floats>().Attr<Integers>("window"));
LENET_JAX_HANDLER(lenet_jax_channel_moments, channel_moments,
                  LENET_JAX_BIND.Arg<Floats>().Ret<Floats>().Ret<Floats>());
LENET_JAX_HANDLER(lenet_jax_channel_sums, channel_sums,
                  LENET_JAX_BIND.Arg<Floats>().Arg<Floats>().Arg<Floats>().Ret<Floats>());

#pragma GCC visibility pop

}  // namespace lenet_jax
