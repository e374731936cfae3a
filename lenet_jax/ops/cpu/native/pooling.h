// Max-pooling and sums over windows, and their gradients, over up to three spatial axes.
//
// All four read, for each output, numbers at a few places ("taps") of their input, in vectors along the channels (fewer
// channels than lanes leave the others idle). The gradients gather too: an element of dx looks at the windows that
// contain it, so that no two tasks write to one place.
#pragma once

#include <algorithm>
#include <limits>
#include <vector>

#include "kernels.h"
#include "largest.h"
#include "parallel.h"
#include "scratch.h"
#include "vector.h"

namespace lenet_jax::LENET_JAX_INSTRUCTION_SET {

constexpr int kNowhere = 255;  // the index of a window that lies in the padding

struct Tap {
  std::ptrdiff_t offset;  // in the input
  int position;           // in the window
};

// y and index = the largest of the taps, for `count` consecutive numbers. Of equal ones it is the first, and where the
// window begins in the padding that is the padding, though no pixel is larger than -inf there.
inline void max_of_taps(const Tap* taps, int num_taps, const float* x, int count, float* y, std::uint8_t* index) {
  constexpr int kWidth = kLanes<float>;
  const bool begins_inside = num_taps > 0 && taps[0].position == 0;
  for (int i = 0; i < count; i += kWidth) {
    Largest largest = begins_inside
                          ? largest_of_one(load_first(x + taps[0].offset + i, count - i), 0)
                          : largest_of_one(broadcast(-std::numeric_limits<float>::infinity()), kNowhere);
    for (int tap = begins_inside; tap < num_taps; ++tap)
      include(largest, load_first(x + taps[tap].offset + i, count - i), taps[tap].position);
    store_first(y + i, largest.value, count - i);
    store_bytes(index + i, largest.position, count - i);
  }
}

// y = the sum of the taps.
inline void sum_of_taps(const Tap* taps, int num_taps, const float* x, int count, float* y) {
  constexpr int kWidth = kLanes<float>;
  for (int i = 0; i < count; i += kWidth) {
    Vector<float> sum{};
    for (int tap = 0; tap < num_taps; ++tap) sum += load_first(x + taps[tap].offset + i, count - i);
    store_first(y + i, sum, count - i);
  }
}

// y = the sum of those taps whose index is their position.
inline void sum_of_chosen_taps(const Tap* taps, int num_taps, const float* x, const std::uint8_t* index, int count,
                               float* y) {
  constexpr int kWidth = kLanes<float>;
  for (int i = 0; i < count; i += kWidth) {
    Vector<float> sum{};
    for (int tap = 0; tap < num_taps; ++tap) {
      const Vector<float> value = load_first(x + taps[tap].offset + i, count - i);
      const Vector<std::int32_t> chosen = load_bytes(index + taps[tap].offset + i, count - i);
      sum += chosen == broadcast<std::int32_t>(taps[tap].position) ? value : Vector<float>{};
    }
    store_first(y + i, sum, count - i);
  }
}

// One place along one axis of the input and its place in the window.
struct AxisTap {
  int at, position;
};

// For every output along one axis, the inputs in its window.
inline std::vector<std::vector<AxisTap>> inputs_of_windows(int space, const Window& pooling, int axis) {
  std::vector<std::vector<AxisTap>> taps(pooling.output[axis]);
  for (int i = 0; i < pooling.output[axis]; ++i)
    for (int position = 0; position < pooling.size[axis]; ++position) {
      const int at = i * pooling.strides[axis] - pooling.before[axis] + position;
      if (0 <= at && at < space) taps[i].push_back({at, position});
    }
  return taps;
}

// For every input along one axis, the windows that contain it.
inline std::vector<std::vector<AxisTap>> windows_of_inputs(int space, const Window& pooling, int axis) {
  std::vector<std::vector<AxisTap>> taps(space);
  for (int i = 0; i < pooling.output[axis]; ++i)
    for (int position = 0; position < pooling.size[axis]; ++position) {
      const int at = i * pooling.strides[axis] - pooling.before[axis] + position;
      if (0 <= at && at < space) taps[at].push_back({i, position});
    }
  return taps;
}

// Which inputs each output reads: the same along each axis for all images.
struct TapTable {
  std::vector<std::vector<AxisTap>> axes[3];
  int input[3];
  int size[3];  // of the window
  int channels;

  std::ptrdiff_t input_size() const { return static_cast<std::ptrdiff_t>(input[0]) * input[1] * input[2] * channels; }
  int output(int axis) const { return static_cast<int>(axes[axis].size()); }
};

inline TapTable forward_taps(const int space[3], int channels, const Window& pooling) {
  TapTable table;
  for (int axis = 0; axis < 3; ++axis) {
    table.axes[axis] = inputs_of_windows(space[axis], pooling, axis);
    table.input[axis] = space[axis];
    table.size[axis] = pooling.size[axis];
  }
  table.channels = channels;
  return table;
}

inline TapTable backward_taps(const int space[3], int channels, const Window& pooling) {
  TapTable table;
  for (int axis = 0; axis < 3; ++axis) {
    table.axes[axis] = windows_of_inputs(space[axis], pooling, axis);
    table.input[axis] = pooling.output[axis];
    table.size[axis] = pooling.size[axis];
  }
  table.channels = channels;
  return table;
}

// The taps of output (d, h, w), in the order of their positions in the window; returns their number.
inline int list_taps(const TapTable& table, int d, int h, int w, Tap* taps) {
  int count = 0;
  for (const AxisTap& a : table.axes[0][d])
    for (const AxisTap& b : table.axes[1][h]) {
      const std::ptrdiff_t row = (static_cast<std::ptrdiff_t>(a.at) * table.input[1] + b.at) * table.input[2];
      const int position = (a.position * table.size[1] + b.position) * table.size[2];
      for (const AxisTap& c : table.axes[2][w]) taps[count++] = {(row + c.at) * table.channels, position + c.position};
    }
  return count;
}

inline std::size_t most_taps(const TapTable& table) {
  std::size_t most = 1;
  for (const auto& axis : table.axes) {
    std::size_t longest = 0;
    for (const auto& taps : axis) longest = std::max(longest, taps.size());
    most *= longest;
  }
  return most;
}

// Calls compute(image, taps, num_taps, output's offset) for every output of every image; a task is some rows
// of outputs.
template <class Compute>
void for_outputs(Pool& pool, int batch, const TapTable& table, Compute compute) {
  const int depth = table.output(0), height = table.output(1), width = table.output(2);
  const std::ptrdiff_t row = static_cast<std::ptrdiff_t>(width) * table.channels;
  const int parts = std::min(height, std::max(1, 64 / std::max(1, batch * depth)));
  parallel(pool, batch * depth * parts, [=, &table](int task) {
    static thread_local Scratch memory;
    Tap* taps = memory.get<Tap>(most_taps(table));
    const int part = task % parts, d = task / parts % depth, image = task / parts / depth;
    for (int h = height * part / parts; h < height * (part + 1) / parts; ++h)
      for (int w = 0; w < width; ++w) {
        const int count = list_taps(table, d, h, w, taps);
        const std::ptrdiff_t rows = (static_cast<std::ptrdiff_t>(image) * depth + d) * height + h;
        compute(image, taps, count, rows * row + static_cast<std::ptrdiff_t>(w) * table.channels);
      }
  });
}

inline void max_pool(Pool& pool, int batch, const int space[3], int channels, const Window& pooling, const float* x,
                     float* y, std::uint8_t* index) {
  const TapTable table = forward_taps(space, channels, pooling);
  for_outputs(pool, batch, table, [=, &table](int image, const Tap* taps, int count, std::ptrdiff_t at) {
    max_of_taps(taps, count, x + image * table.input_size(), channels, y + at, index + at);
  });
}

inline void max_pool_gradient(Pool& pool, int batch, const int space[3], int channels, const Window& pooling,
                              const float* dy, const std::uint8_t* index, float* dx) {
  const TapTable table = backward_taps(space, channels, pooling);
  for_outputs(pool, batch, table, [=, &table](int image, const Tap* taps, int count, std::ptrdiff_t at) {
    const std::ptrdiff_t from = image * table.input_size();
    sum_of_chosen_taps(taps, count, dy + from, index + from, channels, dx + at);
  });
}

inline void sum_pool(Pool& pool, int batch, const int space[3], int channels, const Window& pooling, const float* x,
                     float* y) {
  const TapTable table = forward_taps(space, channels, pooling);
  for_outputs(pool, batch, table, [=, &table](int image, const Tap* taps, int count, std::ptrdiff_t at) {
    sum_of_taps(taps, count, x + image * table.input_size(), channels, y + at);
  });
}

inline void sum_pool_gradient(Pool& pool, int batch, const int space[3], int channels, const Window& pooling,
                              const float* dy, float* dx) {
  const TapTable table = backward_taps(space, channels, pooling);
  for_outputs(pool, batch, table, [=, &table](int image, const Tap* taps, int count, std::ptrdiff_t at) {
    sum_of_taps(taps, count, dy + image * table.input_size(), channels, dx + at);
  });
}

}  // namespace lenet_jax::LENET_JAX_INSTRUCTION_SET
