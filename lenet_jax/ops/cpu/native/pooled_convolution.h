// y = activation(max_pool(convolution(x, kernel)) + bias) in one pass: the convolution's output is never written.
//
// A tile of the map is computed in registers: some positions of one or two rows by some vectors of output channels.
// Windows of 2x2 are finished there; others go through a row of largest values in memory. The kernel is packed in
// panels of one tile's width, so that a tile reads it from beginning to end. One or two output channels beyond full
// vectors would waste a vector: they are sums of products along the rows of x.
#pragma once

#include <vector>

#include "activation.h"
#include "largest.h"
#include "parallel.h"
#include "pooled_geometry.h"
#include "scratch.h"

namespace lenet_jax::LENET_JAX_INSTRUCTION_SET {

// Vectors of output channels in a panel, and columns of a tile of two rows: the sums, the kernel and one number of x
// are to fit in the registers.
constexpr int kMostPooledVectors = 3;
constexpr int most_columns(int vectors) {
  const int columns = (kRegisters - 1 - vectors) / (2 * vectors) / 2 * 2;
  return columns < 2 ? 2 : columns > 8 ? 8 : columns;
}

struct PooledPanel {
  int channel, count, vectors;  // its first output channel, how many it has, and registers for them
  const float* kernel;          // (kernel_height, row_length, vectors * lanes)
};

// What the tiles of one row of windows share.
struct PooledRow {
  const Stage* stage;
  Activation activation;
  const float* x;  // the first of the rows that the windows need
  std::ptrdiff_t row_stride;
  int valid_rows;     // of each window: fewer than pool_height where the map ends
  const float* bias;  // with zeros to a full vector
  float* y;
  std::uint8_t* index;
};

template <int Rows, int Columns, int Vectors>
LENET_JAX_INLINE void sums_of_tile(const Stage& stage, const float* x, std::ptrdiff_t row_stride, const float* kernel,
                                   Vector<float> (&sums)[Rows][Columns][Vectors]) {
  constexpr int kWidth = Vectors * kLanes<float>;
  const int channels = stage.channels, length = stage.row_length();
#pragma GCC unroll 2
  for (int row = 0; row < Rows; ++row)
#pragma GCC unroll 8
    for (int column = 0; column < Columns; ++column)
#pragma GCC unroll 4
      for (int v = 0; v < Vectors; ++v) sums[row][column][v] = Vector<float>{};
  for (int kernel_row = 0; kernel_row < stage.kernel_height; ++kernel_row, x += row_stride) {
    const float* from = x;
    for (int i = 0; i < length; ++i, ++from, kernel += kWidth) {
      Vector<float> weights[Vectors];
#pragma GCC unroll 4
      for (int v = 0; v < Vectors; ++v) weights[v] = load(kernel + v * kLanes<float>);
#pragma GCC unroll 2
      for (int row = 0; row < Rows; ++row)
#pragma GCC unroll 8
        for (int column = 0; column < Columns; ++column) {
          const Vector<float> value = broadcast(from[row * row_stride + column * channels]);
#pragma GCC unroll 4
          for (int v = 0; v < Vectors; ++v) sums[row][column][v] += value * weights[v];
        }
    }
  }
}

// Writes the first `count` channels of one window.
LENET_JAX_INLINE void finish(const PooledRow& row, const Largest& largest, int column, int channel, int count) {
  const std::ptrdiff_t at = static_cast<std::ptrdiff_t>(column) * row.stage->kernels + channel;
  store_first(row.y + at, activate(row.activation, largest.value + load(row.bias + channel)), count);
  store_bytes(row.index + at, largest.position, count);
}

// The largest of the positions of a 2x2 window that the map has.
LENET_JAX_INLINE Largest largest_of_four(const PooledRow& row, int column, Vector<float> a, Vector<float> b,
                                         Vector<float> c, Vector<float> d) {
  const bool second_column = 2 * column + 1 < row.stage->map_width;
  Largest largest = largest_of_one(a, 0);
  if (second_column) include(largest, b, 1);
  if (row.valid_rows == 2) {
    include(largest, c, 2);
    if (second_column) include(largest, d, 3);
  }
  return largest;
}

template <int Columns, int Vectors>
void tile_of_squares(const PooledRow& row, const PooledPanel& panel, int first_column) {
  const Stage& stage = *row.stage;
  Vector<float> sums[2][Columns][Vectors];
  sums_of_tile<2, Columns, Vectors>(stage, row.x + static_cast<std::ptrdiff_t>(first_column) * 2 * stage.channels,
                                    row.row_stride, panel.kernel, sums);
#pragma GCC unroll 4
  for (int i = 0; i < Columns; i += 2)
#pragma GCC unroll 4
    for (int v = 0; v < Vectors; ++v) {
      const int column = first_column + i / 2;
      finish(row, largest_of_four(row, column, sums[0][i][v], sums[0][i + 1][v], sums[1][i][v], sums[1][i + 1][v]),
             column, panel.channel + v * kLanes<float>, panel.count - v * kLanes<float>);
    }
}

template <int Vectors>
void row_of_squares(const PooledRow& row, const PooledPanel& panel) {
  constexpr int kMost = most_columns(Vectors);
  const int columns = row.stage->columns;
  for (int column = 0; column < columns;) {
    const int left = 2 * (columns - column);
    // 4 + 4 reads the kernel as often as 6 + 2 with fewer waiting sums.
    const int size = kMost == 6 && left == 8 ? 4 : std::min(kMost, left);
    if constexpr (kMost >= 8)
      if (size == 8) tile_of_squares<8, Vectors>(row, panel, column);
    if constexpr (kMost >= 6)
      if (size == 6) tile_of_squares<6, Vectors>(row, panel, column);
    if constexpr (kMost >= 4)
      if (size == 4) tile_of_squares<4, Vectors>(row, panel, column);
    if (size == 2) tile_of_squares<2, Vectors>(row, panel, column);
    column += size / 2;
  }
}

// Includes `Columns` positions of the map in the largest values of their windows, (columns, Vectors).
template <int Columns, int Vectors>
void tile_of_row(const PooledRow& row, const PooledPanel& panel, int map_row, int first, Largest* largest) {
  const Stage& stage = *row.stage;
  Vector<float> sums[1][Columns][Vectors];
  sums_of_tile<1, Columns, Vectors>(
      stage, row.x + map_row * row.row_stride + static_cast<std::ptrdiff_t>(first) * stage.channels, row.row_stride,
      panel.kernel, sums);
#pragma GCC unroll 8
  for (int i = 0; i < Columns; ++i) {
    const int window = (first + i) / stage.pool_width, column = (first + i) % stage.pool_width;
    for (int v = 0; v < Vectors; ++v) {
      Largest& slot = largest[window * Vectors + v];
      if (map_row == 0 && column == 0) slot = largest_of_one(sums[0][i][v], 0);
      else include(slot, sums[0][i][v], map_row * stage.pool_width + column);
    }
  }
}

template <int Vectors>
void row_of_windows(const PooledRow& row, const PooledPanel& panel) {
  constexpr int kMost = kRegisters >= 32 ? 8 : 4;
  static thread_local Scratch memory;
  const Stage& stage = *row.stage;
  Largest* largest = memory.get<Largest>(static_cast<std::size_t>(stage.columns) * Vectors);
  const int positions = std::min(stage.columns * stage.pool_width, stage.map_width);
  for (int map_row = 0; map_row < row.valid_rows; ++map_row) {
    int first = 0;
    for (; first + kMost <= positions; first += kMost) tile_of_row<kMost, Vectors>(row, panel, map_row, first, largest);
    for (; first + 2 <= positions; first += 2) tile_of_row<2, Vectors>(row, panel, map_row, first, largest);
    if (first < positions) tile_of_row<1, Vectors>(row, panel, map_row, first, largest);
  }
  for (int column = 0; column < stage.columns; ++column)
    for (int v = 0; v < Vectors; ++v)
      finish(row, largest[column * Vectors + v], column, panel.channel + v * kLanes<float>,
             panel.count - v * kLanes<float>);
}

template <int Vectors>
void row_of_panel(const PooledRow& row, const PooledPanel& panel) {
  if (row.stage->pool_height == 2 && row.stage->pool_width == 2) row_of_squares<Vectors>(row, panel);
  else row_of_windows<Vectors>(row, panel);
}

// The last one or two channels of 2x2 windows; `kernel` is (2, kernel_height, whole vectors of row_length).
inline void row_of_last_channels(const PooledRow& row, int channel, const float* kernel) {
  constexpr int kWidth = kLanes<float>;
  const Stage& stage = *row.stage;
  const int length = stage.row_length(), padded = round_up(length, kWidth);
  for (int column = 0; column < stage.columns; ++column) {
    Vector<float> sums[2][4] = {};
    for (int kernel_row = 0; kernel_row < stage.kernel_height; ++kernel_row) {
      const float* x = row.x + kernel_row * row.row_stride + static_cast<std::ptrdiff_t>(column) * 2 * stage.channels;
      const float* weights = kernel + static_cast<std::ptrdiff_t>(kernel_row) * padded;
      for (int i = 0; i < length; i += kWidth) {
        const Vector<float> first = load(weights + i);
        const Vector<float> second = load(weights + static_cast<std::ptrdiff_t>(stage.kernel_height) * padded + i);
#pragma GCC unroll 4
        for (int position = 0; position < 4; ++position) {
          const float* from = x + position / 2 * row.row_stride + position % 2 * stage.channels + i;
          const Vector<float> values = load_first(from, length - i);
          sums[0][position] += values * first;
          sums[1][position] += values * second;
        }
      }
    }
    Vector<float> totals[4] = {};
    for (int position = 0; position < 4; ++position)
      for (int i = 0; i < 2; ++i) totals[position][i] = sum_of_lanes(sums[i][position]);
    finish(row, largest_of_four(row, column, totals[0], totals[1], totals[2], totals[3]), column, channel,
           stage.kernels - channel);
  }
}

// The kernel as the tiles read it, and the bias to a full vector.
struct PackedKernel {
  std::vector<PooledPanel> panels;
  int num_last;  // channels computed by row_of_last_channels
  const float *last, *bias;
};

inline void pack_panel(const Stage& stage, const float* kernel, const PooledPanel& panel, float* to) {
  const int taps = stage.kernel_height * stage.row_length(), width = panel.vectors * kLanes<float>;
  for (int tap = 0; tap < taps; ++tap, to += width) {
    std::memcpy(to, kernel + static_cast<std::ptrdiff_t>(tap) * stage.kernels + panel.channel,
                panel.count * sizeof(float));
    std::memset(to + panel.count, 0, (width - panel.count) * sizeof(float));
  }
}

inline void pack_last_channels(const Stage& stage, const float* kernel, int num_last, float* to) {
  const int length = stage.row_length(), padded = round_up(length, kLanes<float>);
  std::memset(to, 0, sizeof(float) * 2 * stage.kernel_height * padded);
  for (int i = 0; i < num_last; ++i)
    for (int row = 0; row < stage.kernel_height; ++row)
      for (int j = 0; j < length; ++j)
        to[(i * stage.kernel_height + row) * padded + j] =
            kernel[static_cast<std::ptrdiff_t>(row * length + j) * stage.kernels + stage.kernels - num_last + i];
}

inline int num_last_channels(const Stage& stage) {
  const int beyond = stage.kernels % kLanes<float>;
  const bool squares = stage.pool_height == 2 && stage.pool_width == 2;
  const bool pays = stage.kernels > kLanes<float> && stage.row_length() >= 2 * kLanes<float>;
  return squares && pays && beyond <= 2 ? beyond : 0;
}

inline PackedKernel pack_kernel(const Stage& stage, const float* kernel, const float* bias, Scratch& memory) {
  constexpr int kWidth = kLanes<float>;
  const int taps = stage.kernel_height * stage.row_length();
  PackedKernel packed;
  packed.num_last = num_last_channels(stage);
  const int others = stage.kernels - packed.num_last, vectors = divide_rounding_up(others, kWidth);
  const std::size_t panels_size = static_cast<std::size_t>(taps) * vectors * kWidth;
  const std::size_t last_size = 2 * stage.kernel_height * round_up(stage.row_length(), kWidth);
  float* to = memory.get<float>(panels_size + last_size + stage.kernels + 2 * kWidth);
  for (int vector = 0; vector < vectors;) {
    const int left = vectors - vector, size = left == 4 ? 2 : std::min(kMostPooledVectors, left);  // 2 + 2, not 3 + 1
    PooledPanel panel{vector * kWidth, std::min(size * kWidth, others - vector * kWidth), size, to};
    pack_panel(stage, kernel, panel, to);
    packed.panels.push_back(panel);
    to += static_cast<std::size_t>(taps) * size * kWidth;
    vector += size;
  }
  packed.last = to;
  if (packed.num_last) pack_last_channels(stage, kernel, packed.num_last, to);
  to += last_size;
  packed.bias = to;
  std::memcpy(to, bias, stage.kernels * sizeof(float));
  std::memset(to + stage.kernels, 0, 2 * kWidth * sizeof(float));
  return packed;
}

inline void row_of_all_channels(const PooledRow& row, const PackedKernel& packed) {
  for (const PooledPanel& panel : packed.panels) {
    if (panel.vectors == 1) row_of_panel<1>(row, panel);
    else if (panel.vectors == 2) row_of_panel<2>(row, panel);
    else row_of_panel<3>(row, panel);
  }
  if (packed.num_last) row_of_last_channels(row, row.stage->kernels - packed.num_last, packed.last);
}

inline void pooled_convolution(Pool& pool, const Convolution& convolution, const Window& pooling, Activation activation,
                               const float* x, const float* kernel, const float* bias, float* y, std::uint8_t* index) {
  static thread_local Scratch kernel_memory;
  const Stage stage = make_stage(convolution, pooling);
  if (stage.batch == 0) return;
  const PackedKernel packed = pack_kernel(stage, kernel, bias, kernel_memory);
  // Enough tasks for a small batch too; bits do not depend on their number, since no sum is divided.
  const int parts = std::min(stage.rows, divide_rounding_up(32, stage.batch));
  parallel(pool, stage.batch * parts, [=, &packed](int task) {
    static thread_local Scratch image_memory;
    const int image = task / parts, part = task % parts;
    const int begin = stage.rows * part / parts, end = stage.rows * (part + 1) / parts;
    const std::ptrdiff_t image_size = static_cast<std::ptrdiff_t>(stage.height) * stage.width * stage.channels;
    const float* from = x + image * image_size;
    std::ptrdiff_t row_stride = static_cast<std::ptrdiff_t>(stage.width) * stage.channels;
    from += begin * stage.pool_height * row_stride;
    if (!stage.reads_within_image()) {
      const int length = stage.padded_width() * stage.channels;
      const int num_rows = (end - begin) * stage.pool_height + stage.kernel_height - 1;
      float* padded = image_memory.get<float>(static_cast<std::size_t>(num_rows) * length);
      for (int i = 0; i < num_rows; ++i)
        copy_padded_row(stage, x + image * image_size, begin * stage.pool_height + i, 0, length,
                        padded + static_cast<std::ptrdiff_t>(i) * length);
      from = padded;
      row_stride = length;
    }
    for (int i = begin; i < end; ++i) {
      const std::ptrdiff_t at = (static_cast<std::ptrdiff_t>(image) * stage.rows + i) * stage.columns * stage.kernels;
      const int valid_rows = std::min(stage.pool_height, stage.map_height - i * stage.pool_height);
      row_of_all_channels({&stage, activation, from + (i - begin) * stage.pool_height * row_stride, row_stride,
                           valid_rows, packed.bias, y + at, index + at},
                          packed);
    }
  });
}

}  // namespace lenet_jax::LENET_JAX_INSTRUCTION_SET
