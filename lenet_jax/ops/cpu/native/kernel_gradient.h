// The gradient with respect to the kernel: sums over blocks of positions, with dy packed so that it stays in L1.
#pragma once

#include "convolution.h"

namespace lenet_jax::LENET_JAX_INSTRUCTION_SET {

// Numbers of dy in a block: 24 KB of float32.
constexpr int kBlockSize = 6144;
constexpr int kMostPartialSums = 16;

// sums[t][v] += x[row * x_row + column * x_column + t] * dy[row][column][v] over all rows and columns.
template <class T>
struct GradientTile {
  const T* x;
  Index x_row, x_column;
  const T* dy;
  Index dy_row;
  int rows, columns;
  T* sums;
};

template <class T, int kTaps, int kVectors>
void add_gradient_tile(const GradientTile<T>& tile) {
  constexpr int kWidth = kVectors * kLanes<T>;
  Sums<T, kTaps, kVectors> sums;
  LENET_JAX_UNROLL
  for (int t = 0; t < kTaps; ++t) {
    LENET_JAX_UNROLL
    for (int v = 0; v < kVectors; ++v) sums.at[t][v] = load(tile.sums + t * kWidth + v * kLanes<T>);
  }
  for (int row = 0; row < tile.rows; ++row) {
    const T* x = tile.x + row * tile.x_row;
    const T* dy = tile.dy + row * tile.dy_row;
    for (int column = 0; column < tile.columns; ++column, x += tile.x_column, dy += kWidth) {
      Vector<T> outputs[kVectors];
      LENET_JAX_UNROLL
      for (int v = 0; v < kVectors; ++v) outputs[v] = load(dy + v * kLanes<T>);
      LENET_JAX_UNROLL
      for (int t = 0; t < kTaps; ++t) {
        const Vector<T> input = broadcast(x[t]);
        LENET_JAX_UNROLL
        for (int v = 0; v < kVectors; ++v) sums.at[t][v] += input * outputs[v];
      }
    }
  }
  LENET_JAX_UNROLL
  for (int t = 0; t < kTaps; ++t) {
    LENET_JAX_UNROLL
    for (int v = 0; v < kVectors; ++v) store(tile.sums + t * kWidth + v * kLanes<T>, sums.at[t][v]);
  }
}

// The same for `count` rows of the sums, of any number.
template <class T>
void add_gradient(int count, int vectors, GradientTile<T> tile) {
  if (tile.rows <= 0 || tile.columns <= 0) return;
  with_constant<kMostVectors>(vectors, [&](auto num_vectors) {
    constexpr int kMost = most_positions(num_vectors);
    for (int left = count; left > 0;) {
      const int taps = next_tile(left, kMost);
      with_constant<kMost>(taps, [&](auto num_taps) { add_gradient_tile<T, num_taps, num_vectors>(tile); });
      tile.x += taps;
      tile.sums += taps * vectors * kLanes<T>;
      left -= taps;
    }
  });
}

// Some rows and columns of outputs, at one place on the two outer axes.
struct Block {
  int outputs[2];
  Range rows, columns;
};

// The gradient of one panel over one block after another.
template <class T>
class PanelGradient {
 public:
  PanelGradient(const Convolution& shape, const Axis (&axes)[4], const Panel& panel, T* packed, T* sums)
      : axes_(axes), panel_(panel), packed_(packed), sums_(sums) {
    channels_ = shape.channels / shape.groups;
    kernels_ = shape.kernels / shape.groups;
    width_ = panel.vectors * kLanes<T>;
    is_contiguous_ = axes[3].dilation * axes[3].input_step == channels_;
  }

  void add(const Block& block, const T* x, const T* dy) {
    pack_block(block, dy + static_cast<Index>(panel_.group) * kernels_ + panel_.first);
    x += static_cast<Index>(panel_.group) * channels_;
    const Range outer = axes_[0].taps_inside(block.outputs[0]), inner = axes_[1].taps_inside(block.outputs[1]);
    for (int a = outer.first; a < outer.end; ++a)
      for (int b = inner.first; b < inner.end; ++b)
        for (int c = 0; c < axes_[2].taps; ++c)
          add_kernel_row(block,
                         x + axes_[0].input(block.outputs[0], a) * axes_[0].input_step +
                             axes_[1].input(block.outputs[1], b) * axes_[1].input_step,
                         c, a * axes_[0].tap_step + b * axes_[1].tap_step + c * axes_[2].tap_step);
  }

 private:
  static Range both(Range a, Range b) { return {std::max(a.first, b.first), std::min(a.end, b.end)}; }

  void pack_block(const Block& block, const T* dy) {
    T* to = packed_;
    for (int row = block.rows.first; row < block.rows.end; ++row) {
      const T* from = dy + block.outputs[0] * axes_[0].output_step + block.outputs[1] * axes_[1].output_step +
                      row * axes_[2].output_step + block.columns.first * axes_[3].output_step;
      for (int column = block.columns.first; column < block.columns.end; ++column, from += axes_[3].output_step)
        for (int lane = 0; lane < width_; lane += kLanes<T>, to += kLanes<T>)
          store(to, load_first(from + lane, kernels_ - panel_.first - lane));
    }
  }

  // Where all taps of the row meet the image they are one long row with their channels; elsewhere each is on its own.
  void add_kernel_row(const Block& block, const T* x, int row_tap, Index tap) {
    const Range rows = both(block.rows, axes_[2].outputs_inside(row_tap));
    if (rows.size() == 0) return;
    Range whole = block.columns;
    for (int d = 0; d < axes_[3].taps; ++d) whole = both(whole, axes_[3].outputs_inside(d));
    const bool is_whole = is_contiguous_ && whole.size() > 0 &&
                          (channels_ < kLanes<T> || whole.size() == block.columns.size());
    if (is_whole) add_taps(block, rows, whole, x, row_tap, 0, tap, axes_[3].taps);
    for (int d = 0; d < axes_[3].taps; ++d) {
      const Range columns = both(block.columns, axes_[3].outputs_inside(d));
      if (is_whole) {
        add_taps(block, rows, {columns.first, std::min(columns.end, whole.first)}, x, row_tap, d, tap, 1);
        add_taps(block, rows, {std::max(columns.first, whole.end), columns.end}, x, row_tap, d, tap, 1);
      } else {
        add_taps(block, rows, columns, x, row_tap, d, tap, 1);
      }
    }
  }

  void add_taps(const Block& block, Range rows, Range columns, const T* x, int row_tap, int first_tap, Index tap,
                int num_taps) {
    if (columns.size() == 0) return;
    GradientTile<T> tile;
    tile.x = x + axes_[2].input(rows.first, row_tap) * axes_[2].input_step +
             axes_[3].input(columns.first, first_tap) * axes_[3].input_step;
    tile.x_row = axes_[2].stride * axes_[2].input_step;
    tile.x_column = axes_[3].stride * axes_[3].input_step;
    tile.dy_row = static_cast<Index>(block.columns.size()) * width_;
    tile.dy = packed_ + (rows.first - block.rows.first) * tile.dy_row + (columns.first - block.columns.first) * width_;
    tile.rows = rows.size();
    tile.columns = columns.size();
    tile.sums = sums_ + (tap + first_tap) * channels_ * width_;
    add_gradient(num_taps * channels_, panel_.vectors, tile);
  }

  const Axis (&axes_)[4];
  const Panel& panel_;
  T *packed_, *sums_;
  int channels_, kernels_, width_;
  bool is_contiguous_;
};

// How the outputs are cut into blocks.
class Blocks {
 public:
  Blocks(const Axis (&axes)[4], int width) : axes_(axes) {
    const int most = std::max(1, kBlockSize / width);
    columns_ = static_cast<int>(ceil_div(axes[3].outputs, 2 * most));
    const int rows = std::max(1, most / std::max(1, axes[3].outputs));
    rows_ = static_cast<int>(ceil_div(axes[2].outputs, rows));
  }

  int count() const { return axes_[0].outputs * axes_[1].outputs * rows_ * columns_; }

  Block operator[](int index) const {
    const int row = index / columns_ % rows_, outer = index / columns_ / rows_;
    return {{outer / axes_[1].outputs, outer % axes_[1].outputs},
            part_of(axes_[2].outputs, row, rows_),
            part_of(axes_[3].outputs, index % columns_, columns_)};
  }

 private:
  const Axis (&axes_)[4];
  int rows_, columns_;
};

// dkernel = the partial sums, added in their order.
template <class T>
void add_partial_sums(Pool& pool, const Panels& panels, int num_sums, int groups, int kernels, const T* sums,
                      T* dkernel) {
  const Index row_length = static_cast<Index>(groups) * kernels;
  const int parts = panels.size * num_sums < kLeastShared ? 1 : 16;
  parallel(pool, parts, [&, sums, dkernel](int part) {
    for (const Panel& panel : panels.list) {
      const int width = panel.vectors * kLanes<T>;
      for (Index row = panels.rows * part / parts; row < panels.rows * (part + 1) / parts; ++row) {
        for (int lane = 0; lane < width; lane += kLanes<T>) {
          const T* from = sums + panel.weights + row * width + lane;
          Vector<T> sum{};
          for (int i = 0; i < num_sums; ++i) sum += load(from + i * panels.size);
          store_first(dkernel + row * row_length + static_cast<Index>(panel.group) * kernels + panel.first + lane, sum,
                      kernels - panel.first - lane);
        }
      }
    }
  });
}

template <class T>
void dense_kernel_gradient(Pool& pool, const Convolution& shape, const T* x, const T* dy, T* dkernel) {
  static thread_local Scratch all_sums;
  Axis axes[4];
  convolution_axes(shape, axes);
  put_columns_last(axes);
  const int channels = shape.channels / shape.groups, kernels = shape.kernels / shape.groups;
  const Window& window = shape.window;
  const Index taps = static_cast<Index>(window.size[0]) * window.size[1] * window.size[2];
  const int vectors = static_cast<int>(ceil_div(kernels, kLanes<T>));
  const int width = vectors % kMostVectors == 0 ? kMostVectors : choose_vectors<T>(kernels, channels);
  const Panels panels = make_panels<T>(shape.groups, kernels, taps * channels, width);
  if (panels.count() == 0) return;
  const Blocks blocks(axes, std::min(width, vectors) * kLanes<T>);
  // Fixed by the shape, so that the bits of the result do not depend on the number of threads.
  const int num_sums =
      std::max(1, std::min(blocks.count(), static_cast<int>(ceil_div(kMostPartialSums, panels.count()))));
  T* sums = all_sums.get<T>(panels.size * num_sums);
  parallel(pool, panels.count() * num_sums, [&, sums, x, dy](int task) {
    static thread_local Scratch scratch;
    const Panel& panel = panels.list[task / num_sums];
    const int part = task % num_sums;
    T* mine = sums + part * panels.size + panel.weights;
    std::fill_n(mine, panels.rows * panel.vectors * kLanes<T>, T(0));
    T* packed = scratch.get<T>(2 * kBlockSize + kMostVectors * kLanes<T>);
    PanelGradient<T> gradient(shape, axes, panel, packed, mine);
    const Range range = part_of(blocks.count(), part, num_sums);
    for (int i = range.first; i < range.end; ++i) gradient.add(blocks[i], x, dy);
  });
  add_partial_sums(pool, panels, num_sums, shape.groups, kernels, sums, dkernel);
}

template <class T>
void kernel_gradient(Pool& pool, const Convolution& shape, const T* x, const T* dy, T* dkernel) {
  if (is_depthwise(shape)) return depthwise_kernel_gradient(pool, shape, x, dy, dkernel);
  dense_kernel_gradient(pool, shape, x, dy, dkernel);
}

}  // namespace lenet_jax::LENET_JAX_INSTRUCTION_SET
