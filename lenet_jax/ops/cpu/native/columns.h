// Correlations with few output channels, which would leave most lanes empty: lanes are neighbouring columns instead.
// Such are LeNet-5's first convolution and the gradient of an image.
#pragma once

#include "parallel.h"
#include "scratch.h"
#include "geometry.h"
#include "tile.h"
#include "transpose.h"

namespace lenet_jax::LENET_JAX_INSTRUCTION_SET {

constexpr int kMostKernelRows = 7;
constexpr int kTileRows = kRegisters >= 32 ? 7 : 4;  // rows of a tile, each of two vectors

// y[p] = the sum over taps of x[p + tap - before] times that tap's weights, along rows and columns.
struct ColumnCorrelation {
  int images;
  int inputs[2], outputs[2], taps[2], before[2];
  int channels, kernels;
};

// Whether lanes along columns are better than lanes along `kernels` output channels.
template <class T>
bool suits_columns(const Convolution& shape, int kernels) {
  const Window& window = shape.window;
  const auto is_plain = [&](int i) { return window.strides[i] == 1 && window.dilation[i] == 1; };
  const bool is_flat = shape.space[0] == 1 && window.size[0] == 1 && window.output[0] == 1 && window.before[0] == 0;
  return is_flat && shape.groups == 1 && 2 * kernels < kLanes<T> && is_plain(1) && is_plain(2) &&
         window.size[1] <= kMostKernelRows;
}

// A few rows of x, one plane for each of its channels, between zeros. A plane's column j is x's column j - before.
template <class T>
class Planes {
 public:
  Planes(const ColumnCorrelation& shape, T* numbers) : shape_(shape), numbers_(numbers) {
    std::fill_n(numbers, size(shape), T(0));
  }

  static Index row_step(const ColumnCorrelation& shape) {
    return ceil_div(shape.outputs[1], 2 * kLanes<T>) * 2 * kLanes<T> + shape.taps[1] - 1 + kLanes<T>;
  }
  static Index plane_step(const ColumnCorrelation& shape) { return (kTileRows + shape.taps[0] - 1) * row_step(shape); }
  static Index size(const ColumnCorrelation& shape) { return shape.channels * plane_step(shape); }

  // Takes the rows of x that meet the outputs' rows from first_row on.
  void fill(const T* x, int image, int first_row) {
    for (int r = 0; r < kTileRows + shape_.taps[0] - 1; ++r) {
      const int row = first_row + r - shape_.before[0];
      if (row >= 0 && row < shape_.inputs[0])
        fill_row(r, x + (static_cast<Index>(image) * shape_.inputs[0] + row) * shape_.inputs[1] * shape_.channels);
      else
        for (int c = 0; c < shape_.channels; ++c)
          std::fill_n(numbers_ + c * plane_step(shape_) + r * row_step(shape_), row_step(shape_), T(0));
    }
  }

  const T* numbers() const { return numbers_; }

 private:
  void fill_row(int r, const T* x) {
    const int before = shape_.before[1], channels = shape_.channels;
    const int first = std::max(0, -before);
    const int end = std::min(shape_.inputs[1], shape_.outputs[1] + shape_.taps[1] - 1 - before);
    T* row = numbers_ + r * row_step(shape_) + before;
    if (channels == 1) {
      if (first < end) std::copy(x + first, x + end, row + first);
      return;
    }
    for (int column = first; column < end; column += kLanes<T>)
      for (int c = 0; c < channels; c += kLanes<T>)
        transpose(x + static_cast<Index>(column) * channels + c, channels, end - column, channels - c,
                  row + c * plane_step(shape_) + column, plane_step(shape_));
  }

  const ColumnCorrelation& shape_;
  T* numbers_;
};

template <class T>
struct ColumnTile {
  const T* planes;  // at the tile's first column
  Index plane_step, row_step;
  const T* weights;  // (C, KW, KH)
  int channels, width;
  T* y;
  Index y_row, y_column;
  int rows, columns;  // how many to write
};

// One output channel of kTileRows rows by two vectors of columns. A row of x is loaded once for all rows of the kernel.
template <int kHeight, class T>
void compute_columns(const ColumnTile<T>& tile) {
  constexpr int kSize = kLanes<T>;
  Vector<T> sums[kTileRows][2]{};
  const T *plane = tile.planes, *weights = tile.weights;
  for (int c = 0; c < tile.channels; ++c, plane += tile.plane_step) {
    for (int b = 0; b < tile.width; ++b, weights += kHeight) {
      Vector<T> taps[kHeight];
      LENET_JAX_UNROLL
      for (int a = 0; a < kHeight; ++a) taps[a] = broadcast(weights[a]);
      LENET_JAX_UNROLL
      for (int r = 0; r < kTileRows + kHeight - 1; ++r) {
        const T* from = plane + b + r * tile.row_step;
        const Vector<T> left = load(from), right = load(from + kSize);
        LENET_JAX_UNROLL
        for (int a = 0; a < kHeight; ++a) {
          if (r - a < 0 || r - a >= kTileRows) continue;
          sums[r - a][0] += taps[a] * left;
          sums[r - a][1] += taps[a] * right;
        }
      }
    }
  }
  LENET_JAX_UNROLL
  for (int row = 0; row < kTileRows; ++row) {
    if (row >= tile.rows) break;
    T* to = tile.y + row * tile.y_row;
    if (tile.y_column == 1) {
      store_first(to, sums[row][0], tile.columns);
      store_first(to + kSize, sums[row][1], tile.columns - kSize);
    } else {
      T line[2 * kSize];
      store(line, sums[row][0]);
      store(line + kSize, sums[row][1]);
      for (int i = 0; i < std::min(2 * kSize, tile.columns); ++i) to[i * tile.y_column] = line[i];
    }
  }
}

// At most kTileRows rows of y.
template <class T>
void compute_rows(const ColumnCorrelation& shape, const Planes<T>& planes, const T* weights, int num_rows, T* y) {
  ColumnTile<T> tile;
  tile.plane_step = Planes<T>::plane_step(shape);
  tile.row_step = Planes<T>::row_step(shape);
  tile.channels = shape.channels;
  tile.width = shape.taps[1];
  tile.y_row = static_cast<Index>(shape.outputs[1]) * shape.kernels;
  tile.y_column = shape.kernels;
  tile.rows = num_rows;
  for (int k = 0; k < shape.kernels; ++k) {
    tile.weights = weights + static_cast<Index>(k) * shape.channels * shape.taps[0] * shape.taps[1];
    for (int column = 0; column < shape.outputs[1]; column += 2 * kLanes<T>) {
      tile.planes = planes.numbers() + column;
      tile.y = y + column * tile.y_column + k;
      tile.columns = shape.outputs[1] - column;
      with_constant<kMostKernelRows>(shape.taps[0], [&](auto rows) { compute_columns<rows>(tile); });
    }
  }
}

// weights: (output channels, C, KW, KH).
template <class T>
void correlate_columns(Pool& pool, const ColumnCorrelation& shape, const T* x, const T* weights, T* y) {
  const int rows = shape.outputs[0], bands = static_cast<int>(ceil_div(rows, kTileRows)), units = shape.images * bands;
  const int tasks = std::min(units, 64);
  parallel(pool, tasks, [&, x, weights, y](int task) {
    static thread_local Scratch scratch;
    Planes<T> planes(shape, scratch.get<T>(Planes<T>::size(shape)));
    const Range range = part_of(units, task, tasks);
    for (int unit = range.first; unit < range.end; ++unit) {
      const int image = unit / bands, first = unit % bands * kTileRows;
      planes.fill(x, image, first);
      compute_rows(shape, planes, weights, std::min(kTileRows, rows - first),
                   y + (static_cast<Index>(image) * rows + first) * shape.outputs[1] * shape.kernels);
    }
  });
}

template <class T>
void convolution_along_columns(Pool& pool, const Convolution& shape, const T* x, const T* kernel, T* y) {
  static thread_local Scratch packed;
  const Window& window = shape.window;
  const int height = window.size[1], width = window.size[2];
  T* weights = packed.get<T>(static_cast<Index>(height) * width * shape.channels * shape.kernels);
  T* to = weights;
  for (int k = 0; k < shape.kernels; ++k)
    for (int c = 0; c < shape.channels; ++c)
      for (int b = 0; b < width; ++b)
        for (int a = 0; a < height; ++a)
          *to++ = kernel[((static_cast<Index>(a) * width + b) * shape.channels + c) * shape.kernels + k];
  const ColumnCorrelation correlation = {shape.batch,
                                         {shape.space[1], shape.space[2]},
                                         {window.output[1], window.output[2]},
                                         {height, width},
                                         {window.before[1], window.before[2]},
                                         shape.channels,
                                         shape.kernels};
  correlate_columns(pool, correlation, x, weights, y);
}

// A correlation of dy with the kernel's taps from last to first.
template <class T>
void input_gradient_along_columns(Pool& pool, const Convolution& shape, const T* dy, const T* kernel, T* dx) {
  static thread_local Scratch packed;
  const Window& window = shape.window;
  const int height = window.size[1], width = window.size[2];
  T* weights = packed.get<T>(static_cast<Index>(height) * width * shape.channels * shape.kernels);
  T* to = weights;
  for (int c = 0; c < shape.channels; ++c)
    for (int k = 0; k < shape.kernels; ++k)
      for (int b = width - 1; b >= 0; --b)
        for (int a = height - 1; a >= 0; --a)
          *to++ = kernel[((static_cast<Index>(a) * width + b) * shape.channels + c) * shape.kernels + k];
  const ColumnCorrelation correlation = {shape.batch,
                                         {window.output[1], window.output[2]},
                                         {shape.space[1], shape.space[2]},
                                         {height, width},
                                         {height - 1 - window.before[1], width - 1 - window.before[2]},
                                         shape.kernels,
                                         shape.channels};
  correlate_columns(pool, correlation, dy, weights, dx);
}

}  // namespace lenet_jax::LENET_JAX_INSTRUCTION_SET
