// Convolutions in which each channel has kernels of its own: lanes are channels, and no sum crosses them.
#pragma once

#include <vector>

#include "parallel.h"
#include "phases.h"
#include "scratch.h"
#include "shape.h"
#include "tile.h"

namespace lenet_jax::LENET_JAX_INSTRUCTION_SET {

constexpr int kDepthwisePositions = 8;
constexpr int kDepthwiseTaps = 4;

inline bool is_depthwise(const Convolution& shape) {
  return shape.groups == shape.channels && shape.channels > 1 && shape.kernels > 0;
}

// Runs work(first, end) over parts of 0..count-1.
template <class Work>
void parallel_parts(Pool& pool, Index count, Work work) {
  const int parts = static_cast<int>(std::min<Index>(count, 64));
  parallel(pool, parts, [=](int part) { work(count * part / parts, count * (part + 1) / parts); });
}

// Each channel `multiplier` times, as there are kernels for it.
template <class T>
void repeat_channels(Pool& pool, Index count, int multiplier, const T* from, T* to) {
  parallel_parts(pool, count, [=](Index first, Index end) {
    for (Index i = first; i < end; ++i) std::fill_n(to + i * multiplier, multiplier, from[i]);
  });
}

template <class T>
void sum_repeated_channels(Pool& pool, Index count, int multiplier, const T* from, T* to) {
  parallel_parts(pool, count, [=](Index first, Index end) {
    for (Index i = first; i < end; ++i)
      to[i] = std::accumulate(from + i * multiplier, from + (i + 1) * multiplier, T(0));
  });
}

inline Index num_inputs(const Convolution& shape) {
  return static_cast<Index>(shape.batch) * shape.space[0] * shape.space[1] * shape.space[2] * shape.channels;
}

// The same convolution with one kernel for each channel, of channels that are repeated.
inline Convolution with_repeated_channels(Convolution shape) {
  shape.channels = shape.groups = shape.kernels;
  return shape;
}

// Calls function(x, tap) for each row of the kernel that meets the image at a row of outputs: the offset of the input
// row, and the number of the row's first tap.
template <class Function>
void for_each_kernel_row(const Axis (&axes)[4], const int (&outputs)[3], Function function) {
  const Range depths = axes[1].taps_inside(outputs[1]), heights = axes[2].taps_inside(outputs[2]);
  for (int a = depths.first; a < depths.end; ++a)
    for (int b = heights.first; b < heights.end; ++b)
      function(outputs[0] * axes[0].input_step + axes[1].input(outputs[1], a) * axes[1].input_step +
                   axes[2].input(outputs[2], b) * axes[2].input_step,
               a * axes[1].tap_step + b * axes[2].tap_step);
}

// One row of outputs, all channels.
template <class T>
class DepthwiseRow {
 public:
  DepthwiseRow(const Axis (&axes)[4], int channels) : axes_(axes), columns_(axes[3]), channels_(channels) {
    for (int tap = 0; tap < columns_.taps; ++tap) inside_.push_back(columns_.outputs_inside(tap));
  }

  void compute(int row, const T* x, const T* kernel, T* y) {
    const int heights = axes_[2].outputs, depths = axes_[1].outputs;
    const int outputs[3] = {row / heights / depths, row / heights % depths, row % heights};
    rows_.clear();
    for_each_kernel_row(axes_, outputs, [&](Index input, Index tap) { rows_.push_back({input, tap * channels_, 1}); });
    for (int i = 0; i < 3; ++i) y += outputs[i] * axes_[i].output_step;
    for (int channel = 0; channel < channels_; channel += kLanes<T>) {
      for (int first = 0; first < columns_.outputs; first += kDepthwisePositions) {
        const int positions = std::min(kDepthwisePositions, columns_.outputs - first);
        with_constant<kDepthwisePositions>(positions, [&](auto count) {
          if (channel + kLanes<T> <= channels_)
            compute_tile<count>(first, kLanes<T>, x + channel, kernel + channel, y + channel);
          else
            compute_tile<count>(first, channels_ - channel, x + channel, kernel + channel, y + channel);
        });
      }
    }
  }

 private:
  template <int kPositions>
  LENET_JAX_INLINE void compute_tile(int first, int lanes, const T* x, const T* kernel, T* y) const {
    Vector<T> sums[kPositions]{};
    const Index step = columns_.stride * columns_.input_step;
    for (const KernelRow& row : rows_) {
      for (int tap = 0; tap < columns_.taps; ++tap) {
        const Vector<T> weights = load_first(kernel + row.weights + tap * columns_.tap_step * channels_, lanes);
        const T* input = x + row.x + columns_.input(first, tap) * columns_.input_step;
        const Range inside = {inside_[tap].first - first, inside_[tap].end - first};
        if (inside.first <= 0 && inside.end >= kPositions) {
          LENET_JAX_UNROLL
          for (int p = 0; p < kPositions; ++p) sums[p] += weights * load_first(input + p * step, lanes);
        } else {
          LENET_JAX_UNROLL
          for (int p = 0; p < kPositions; ++p)
            if (p >= inside.first && p < inside.end) sums[p] += weights * load_first(input + p * step, lanes);
        }
      }
    }
    LENET_JAX_UNROLL
    for (int p = 0; p < kPositions; ++p) store_first(y + (first + p) * columns_.output_step, sums[p], lanes);
  }

  const Axis (&axes_)[4];
  const Axis& columns_;
  int channels_;
  std::vector<Range> inside_;
  std::vector<KernelRow> rows_;
};

template <class T>
void depthwise_correlate(Pool& pool, const Axis (&axes)[4], int channels, const T* x, const T* kernel, T* y) {
  const int rows = axes[0].outputs * axes[1].outputs * axes[2].outputs;
  parallel_parts(pool, rows, [&, x, kernel, y](Index first, Index end) {
    DepthwiseRow<T> row(axes, channels);
    for (Index i = first; i < end; ++i) row.compute(static_cast<int>(i), x, kernel, y);
  });
}

template <class T>
void depthwise_convolution(Pool& pool, const Convolution& shape, const T* x, const T* kernel, T* y) {
  static thread_local Scratch repeated;
  const int multiplier = shape.kernels / shape.channels;
  if (multiplier > 1) {
    T* inputs = repeated.get<T>(num_inputs(shape) * multiplier);
    repeat_channels(pool, num_inputs(shape), multiplier, x, inputs);
    x = inputs;
  }
  Axis axes[4];
  convolution_axes(with_repeated_channels(shape), axes);
  depthwise_correlate(pool, axes, shape.kernels, x, kernel, y);
}

template <class T>
void depthwise_input_gradient(Pool& pool, const Convolution& shape, const T* dy, const T* kernel, T* dx) {
  static thread_local Scratch repeated;
  const int multiplier = shape.kernels / shape.channels;
  T* sums = multiplier > 1 ? repeated.get<T>(num_inputs(shape) * multiplier) : dx;
  Axis forward[4];
  convolution_axes(with_repeated_channels(shape), forward);
  for (const Phase& phase : make_phases(forward))
    depthwise_correlate(pool, phase.axes, shape.kernels, dy, kernel + phase.first_tap * shape.kernels,
                        sums + phase.first_input);
  if (multiplier > 1) sum_repeated_channels(pool, num_inputs(shape), multiplier, sums, dx);
}

// sums[tap] += x * dy over a row's columns, for kTaps taps from first_tap on: together at the columns where all of them
// meet the image, then each at the others where it does.
template <int kTaps, class T>
LENET_JAX_INLINE void add_depthwise_gradient(const Axis& columns, int first_tap, int lanes, const T* x, const T* dy,
                                             T* sums, int channels) {
  Vector<T> sum[kTaps];
  Range own[kTaps], common = {0, columns.outputs};
  LENET_JAX_UNROLL
  for (int t = 0; t < kTaps; ++t) {
    sum[t] = load_first(sums + (first_tap + t) * channels, lanes);
    own[t] = columns.outputs_inside(first_tap + t);
    common = {std::max(common.first, own[t].first), std::min(common.end, own[t].end)};
  }
  if (common.size() == 0) common = {columns.outputs, columns.outputs};
  const Index tap_step = columns.dilation * columns.input_step, column_step = columns.stride * columns.input_step;
  x += columns.input(0, first_tap) * columns.input_step;
  for (int i = common.first; i < common.end; ++i) {
    const Vector<T> gradient = load_first(dy + i * columns.output_step, lanes);
    LENET_JAX_UNROLL
    for (int t = 0; t < kTaps; ++t) sum[t] += gradient * load_first(x + i * column_step + t * tap_step, lanes);
  }
  LENET_JAX_UNROLL
  for (int t = 0; t < kTaps; ++t) {
    const auto add = [&](int first, int end) {
      for (int i = first; i < end; ++i)
        sum[t] += load_first(dy + i * columns.output_step, lanes) *
                  load_first(x + i * column_step + t * tap_step, lanes);
    };
    add(own[t].first, std::min(own[t].end, common.first));
    add(std::max(own[t].first, common.end), own[t].end);
    store_first(sums + (first_tap + t) * channels, sum[t], lanes);
  }
}

// Adds the gradient from one row of outputs.
template <class T>
void add_depthwise_row(const Axis (&axes)[4], int channels, int row, const T* x, const T* dy, T* sums) {
  const Axis& columns = axes[3];
  const int outputs[3] = {row / axes[2].outputs / axes[1].outputs, row / axes[2].outputs % axes[1].outputs,
                          row % axes[2].outputs};
  for (int i = 0; i < 3; ++i) dy += outputs[i] * axes[i].output_step;
  for_each_kernel_row(axes, outputs, [&](Index input, Index row_tap) {
    for (int channel = 0; channel < channels; channel += kLanes<T>) {
      for (int tap = 0; tap < columns.taps; tap += kDepthwiseTaps) {
        with_constant<kDepthwiseTaps>(std::min(kDepthwiseTaps, columns.taps - tap), [&](auto count) {
          const T* row = x + input + channel;
          T* row_sums = sums + row_tap * channels + channel;
          if (channel + kLanes<T> <= channels)
            add_depthwise_gradient<count>(columns, tap, kLanes<T>, row, dy + channel, row_sums, channels);
          else
            add_depthwise_gradient<count>(columns, tap, channels - channel, row, dy + channel, row_sums, channels);
        });
      }
    }
  });
}

template <class T>
void depthwise_kernel_gradient(Pool& pool, const Convolution& shape, const T* x, const T* dy, T* dkernel) {
  static thread_local Scratch repeated, partial_sums;
  const int multiplier = shape.kernels / shape.channels, channels = shape.kernels;
  if (multiplier > 1) {
    T* inputs = repeated.get<T>(num_inputs(shape) * multiplier);
    repeat_channels(pool, num_inputs(shape), multiplier, x, inputs);
    x = inputs;
  }
  Axis axes[4];
  convolution_axes(with_repeated_channels(shape), axes);
  const int rows = axes[0].outputs * axes[1].outputs * axes[2].outputs;
  const Index size = static_cast<Index>(axes[1].taps) * axes[2].taps * axes[3].taps * channels;
  const int num_sums = std::clamp(rows, 1, 16);  // fixed by the shape: see kernel_gradient.h
  T* sums = partial_sums.get<T>(size * num_sums);
  parallel(pool, num_sums, [&, x, dy](int part) {
    T* mine = sums + part * size;
    std::fill_n(mine, size, T(0));
    const Range range = part_of(rows, part, num_sums);
    for (int row = range.first; row < range.end; ++row) add_depthwise_row(axes, channels, row, x, dy, mine);
  });
  std::copy_n(sums, size, dkernel);
  for (int part = 1; part < num_sums; ++part)
    for (Index i = 0; i < size; ++i) dkernel[i] += sums[part * size + i];
}

}  // namespace lenet_jax::LENET_JAX_INSTRUCTION_SET
