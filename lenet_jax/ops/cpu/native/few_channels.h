// The gradient of an input with few channels, of a network's first layer: lanes are neighbouring columns, since channels
// would leave most lanes empty.
#pragma once

#include "parallel.h"
#include "scratch.h"
#include "shape.h"
#include "tile.h"
#include "transpose.h"

namespace lenet_jax::LENET_JAX_INSTRUCTION_SET {

constexpr int kMostKernelRows = 7;
constexpr int kTileRows = kRegisters >= 32 ? 7 : 4;  // rows of a tile, each of two vectors

template <class T>
bool has_few_channels(const Convolution& shape) {
  const Window& window = shape.window;
  const auto is_plain = [&](int i) { return window.strides[i] == 1 && window.dilation[i] == 1; };
  const bool is_flat = shape.space[0] == 1 && window.size[0] == 1 && window.output[0] == 1 && window.before[0] == 0;
  return is_flat && shape.groups == 1 && shape.channels <= 4 && 2 * shape.channels <= kLanes<T> && is_plain(1) &&
         is_plain(2) && window.size[1] <= kMostKernelRows;
}

// dy of a few rows, one plane for each of its channels. Column j of a plane is dy's column j + before - (KW - 1): tap b
// of the input's column p is at p + KW - 1 - b. Zeros surround it.
template <class T>
class Planes {
 public:
  Planes(const Convolution& shape, T* numbers) : shape_(shape), numbers_(numbers) {
    std::fill_n(numbers, size(shape), T(0));
  }

  static Index row_step(const Convolution& shape) {
    return ceil_div(shape.space[2], 2 * kLanes<T>) * 2 * kLanes<T> + shape.window.size[2] - 1 + kLanes<T>;
  }
  static Index plane_step(const Convolution& shape) {
    return (kTileRows + shape.window.size[1] - 1) * row_step(shape);
  }
  static Index size(const Convolution& shape) { return shape.kernels * plane_step(shape); }

  // Takes the rows of dy that meet the input's rows from first_row on.
  void fill(const T* dy, int image, int first_row) {
    const Window& window = shape_.window;
    for (int r = 0; r < kTileRows + window.size[1] - 1; ++r) {
      const int row = first_row + r + window.before[1] - (window.size[1] - 1);
      if (row >= 0 && row < window.output[1])
        fill_row(r, dy + (static_cast<Index>(image) * window.output[1] + row) * window.output[2] * shape_.kernels);
      else
        for (int k = 0; k < shape_.kernels; ++k)
          std::fill_n(numbers_ + k * plane_step(shape_) + r * row_step(shape_), row_step(shape_), T(0));
    }
  }

  const T* numbers() const { return numbers_; }

 private:
  void fill_row(int r, const T* dy) {
    const Window& window = shape_.window;
    const int shift = window.size[2] - 1 - window.before[2];
    const int end = std::min(window.output[2], shape_.space[2] + window.before[2]);
    for (int column = std::max(0, -shift); column < end; column += kLanes<T>)
      for (int k = 0; k < shape_.kernels; k += kLanes<T>)
        transpose(dy + static_cast<Index>(column) * shape_.kernels + k, shape_.kernels, end - column,
                  shape_.kernels - k, numbers_ + k * plane_step(shape_) + r * row_step(shape_) + column + shift,
                  plane_step(shape_));
  }

  const Convolution& shape_;
  T* numbers_;
};

// kernel (KH, KW, C, O) to (C, O, KW, KH).
template <class T>
void pack_by_channel(const Convolution& shape, const T* kernel, T* packed) {
  const int height = shape.window.size[1], width = shape.window.size[2];
  for (int c = 0; c < shape.channels; ++c)
    for (int k = 0; k < shape.kernels; ++k)
      for (int b = 0; b < width; ++b)
        for (int a = 0; a < height; ++a)
          *packed++ = kernel[((static_cast<Index>(a) * width + b) * shape.channels + c) * shape.kernels + k];
}

template <class T>
struct ColumnTile {
  const T* planes;  // at the tile's first column
  Index plane_step, row_step;
  const T* weights;  // (O, KW, KH)
  int kernels, width;
  T* dx;
  Index dx_row;
  int channels, rows, columns;  // how many rows and columns of dx to write
};

// One channel of kTileRows rows by two vectors of columns. A row of dy is loaded once for all rows of the kernel.
template <int kHeight, class T>
void compute_columns(const ColumnTile<T>& tile) {
  constexpr int kSize = kLanes<T>;
  Vector<T> sums[kTileRows][2]{};
  const T *plane = tile.planes, *weights = tile.weights;
  for (int k = 0; k < tile.kernels; ++k, plane += tile.plane_step) {
    for (int b = 0; b < tile.width; ++b, weights += kHeight) {
      const T* from = plane + tile.width - 1 - b;
      Vector<T> taps[kHeight];
      LENET_JAX_UNROLL
      for (int a = 0; a < kHeight; ++a) taps[a] = broadcast(weights[a]);
      LENET_JAX_UNROLL
      for (int r = 0; r < kTileRows + kHeight - 1; ++r) {
        const Vector<T> left = load(from + r * tile.row_step), right = load(from + r * tile.row_step + kSize);
        LENET_JAX_UNROLL
        for (int a = 0; a < kHeight; ++a) {
          const int row = r - (kHeight - 1) + a;
          if (row < 0 || row >= kTileRows) continue;
          sums[row][0] += taps[a] * left;
          sums[row][1] += taps[a] * right;
        }
      }
    }
  }
  LENET_JAX_UNROLL
  for (int row = 0; row < kTileRows; ++row) {
    if (row >= tile.rows) break;
    T* to = tile.dx + row * tile.dx_row;
    if (tile.channels == 1) {
      store_first(to, sums[row][0], tile.columns);
      store_first(to + kSize, sums[row][1], tile.columns - kSize);
    } else {
      T line[2 * kSize];
      store(line, sums[row][0]);
      store(line + kSize, sums[row][1]);
      for (int i = 0; i < std::min(2 * kSize, tile.columns); ++i) to[i * tile.channels] = line[i];
    }
  }
}

// kTileRows rows of dx.
template <class T>
void compute_rows(const Convolution& shape, const Planes<T>& planes, const T* weights, int num_rows, T* dx) {
  const int height = shape.window.size[1], width = shape.window.size[2], columns = shape.space[2];
  ColumnTile<T> tile;
  tile.plane_step = Planes<T>::plane_step(shape);
  tile.row_step = Planes<T>::row_step(shape);
  tile.kernels = shape.kernels;
  tile.width = width;
  tile.dx_row = static_cast<Index>(columns) * shape.channels;
  tile.channels = shape.channels;
  tile.rows = num_rows;
  for (int channel = 0; channel < shape.channels; ++channel) {
    tile.weights = weights + static_cast<Index>(channel) * shape.kernels * width * height;
    for (int column = 0; column < columns; column += 2 * kLanes<T>) {
      tile.planes = planes.numbers() + column;
      tile.dx = dx + static_cast<Index>(column) * shape.channels + channel;
      tile.columns = columns - column;
      with_constant<kMostKernelRows>(height, [&](auto rows) { compute_columns<rows>(tile); });
    }
  }
}

template <class T>
void input_gradient_of_few_channels(Pool& pool, const Convolution& shape, const T* dy, const T* kernel, T* dx) {
  static thread_local Scratch packed;
  const int rows = shape.space[1], bands = static_cast<int>(ceil_div(rows, kTileRows)), units = shape.batch * bands;
  if (units == 0) return;
  T* weights = packed.get<T>(static_cast<Index>(shape.channels) * shape.kernels * shape.window.size[1] *
                             shape.window.size[2]);
  pack_by_channel(shape, kernel, weights);
  const int tasks = std::min(units, 64);
  parallel(pool, tasks, [&, dy, weights, dx](int task) {
    static thread_local Scratch scratch;
    Planes<T> planes(shape, scratch.get<T>(Planes<T>::size(shape)));
    const Range range = part_of(units, task, tasks);
    for (int unit = range.first; unit < range.end; ++unit) {
      const int image = unit / bands, first = unit % bands * kTileRows;
      planes.fill(dy, image, first);
      compute_rows(shape, planes, weights, std::min(kTileRows, rows - first),
                   dx + (static_cast<Index>(image) * rows + first) * shape.space[2] * shape.channels);
    }
  });
}

}  // namespace lenet_jax::LENET_JAX_INSTRUCTION_SET
