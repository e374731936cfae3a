// The one loop nest behind the convolution and the gradient of its input.
#pragma once

#include "panels.h"
#include "parallel.h"

namespace lenet_jax::LENET_JAX_INSTRUCTION_SET {

// y[i] = the sum over taps of x[i * stride + tap * dilation - before] times that tap's weights, in each group. The
// images of a batch are an axis too, with one tap; tiles lie along the last axis, whose taps follow each other in the
// weights.
struct Correlation {
  Axis axes[4];
  int channels, kernels;  // of each group, in x and in y

  const Axis& columns() const { return axes[3]; }
  int num_rows() const { return axes[0].outputs * axes[1].outputs * axes[2].outputs; }
  Index num_taps() const { return static_cast<Index>(axes[0].taps) * axes[1].taps * axes[2].taps * axes[3].taps; }
};

constexpr Index kBigWeights = 1 << 18;  // numbers: more do not stay in the second-level cache beside images
constexpr Index kRowsInCache = 1 << 14;  // numbers of y that stay there while all panels are computed

// One row of outputs: the rows of the kernel that meet the image there.
class OutputRow {
 public:
  explicit OutputRow(const Correlation& correlation) : correlation_(correlation) {
    const Axis& columns = correlation.columns();
    // Taps and channels that are neighbours in memory are one long row.
    const bool is_contiguous = columns.dilation * columns.input_step == correlation.channels || columns.taps <= 1;
    length_ = is_contiguous ? static_cast<Index>(columns.taps) * correlation.channels : correlation.channels;
    separate_taps_ = is_contiguous ? 1 : columns.taps;
  }

  void move_to(int row) {
    const Axis* axes = correlation_.axes;
    const int outputs[3] = {row / axes[2].outputs / axes[1].outputs, row / axes[2].outputs % axes[1].outputs,
                            row % axes[2].outputs};
    const Range inside[3] = {axes[0].taps_inside(outputs[0]), axes[1].taps_inside(outputs[1]),
                             axes[2].taps_inside(outputs[2])};
    y_ = 0;
    for (int i = 0; i < 3; ++i) y_ += outputs[i] * axes[i].output_step;
    edge_rows_.clear();
    inner_rows_.clear();
    for (int a = inside[0].first; a < inside[0].end; ++a)
      for (int b = inside[1].first; b < inside[1].end; ++b)
        for (int c = inside[2].first; c < inside[2].end; ++c)
          add(axes[0].input(outputs[0], a) * axes[0].input_step + axes[1].input(outputs[1], b) * axes[1].input_step +
                  axes[2].input(outputs[2], c) * axes[2].input_step,
              a * axes[0].tap_step + b * axes[1].tap_step + c * axes[2].tap_step);
  }

  template <class T>
  void compute(Range tiles, const RowTiles& row_tiles, const Panel& panel, const T* x, const T* weights, T* y) const {
    const Axis& columns = correlation_.columns();
    for (int i = tiles.first; i < tiles.end; ++i) {
      const Tile& tile = row_tiles[i];
      const std::vector<KernelRow>& rows = tile.at_edge ? edge_rows_ : inner_rows_;
      TileArguments<T> arguments;
      arguments.rows = rows.data();
      arguments.num_rows = static_cast<int>(rows.size());
      arguments.x = x + static_cast<Index>(panel.group) * correlation_.channels +
                    columns.input(tile.first, 0) * columns.input_step;
      arguments.x_step = columns.stride * columns.input_step;
      arguments.weights = weights + panel.weights;
      arguments.inside = row_tiles.inside(i);
      arguments.taps = columns.taps;
      arguments.channels = correlation_.channels;
      arguments.tap_step = columns.dilation * columns.input_step;
      arguments.y = y + y_ + static_cast<Index>(panel.group) * correlation_.kernels + panel.first +
                    tile.first * columns.output_step;
      arguments.y_step = columns.output_step;
      arguments.kernels = correlation_.kernels - panel.first;
      compute_tile(tile.positions, panel.vectors, arguments);
    }
  }

 private:
  void add(Index x, Index tap) {
    const Index weights = tap * correlation_.channels;
    edge_rows_.push_back({x, weights, correlation_.channels});
    const Axis& columns = correlation_.columns();
    for (int i = 0; i < separate_taps_; ++i)
      inner_rows_.push_back({x + i * columns.dilation * columns.input_step, weights + i * length_, length_});
  }

  const Correlation& correlation_;
  Index length_, y_ = 0;
  int separate_taps_;
  std::vector<KernelRow> edge_rows_, inner_rows_;
};

template <class T>
void correlate(Pool& pool, const Correlation& correlation, const Panels& panels, const T* x, const T* weights, T* y) {
  const Axis& columns = correlation.columns();
  std::vector<RowTiles> tiles;
  for (int vectors = 1; vectors <= kMostVectors; ++vectors) tiles.emplace_back(columns, vectors);
  const int spans = RowTiles::num_spans(columns), units = correlation.num_rows() * spans;
  if (units == 0 || panels.count() == 0) return;

  const auto compute = [&, x, weights, y](Range range, int first_panel, int end_panel) {
    OutputRow row(correlation);
    for (int unit = range.first; unit < range.end; ++unit) {
      if (unit == range.first || unit % spans == 0) row.move_to(unit / spans);
      for (int p = first_panel; p < end_panel; ++p) {
        const Panel& panel = panels.list[p];
        const RowTiles& row_tiles = tiles[panel.vectors - 1];
        row.compute(row_tiles.span(unit % spans), row_tiles, panel, x, weights, y);
      }
    }
  };
  if (panels.rows * correlation.kernels > kBigWeights) {  // one panel stays in the cache while images pass by
    const int parts = std::min<int>(units, static_cast<int>(ceil_div(32, panels.count())));
    parallel(pool, panels.count() * parts, [&](int task) {
      const int panel = task / parts;
      compute(part_of(units, task % parts, parts), panel, panel + 1);
    });
    return;
  }
  const Index unit_size = std::max<Index>(1, static_cast<Index>(columns.outputs) * correlation.kernels / spans);
  const int in_block = static_cast<int>(std::clamp<Index>(kRowsInCache / unit_size, 1, units));
  const int blocks = static_cast<int>(ceil_div(units, in_block)), tasks = std::min(blocks, 64);
  parallel(pool, tasks, [&](int task) {
    const Range mine = part_of(blocks, task, tasks);
    for (int block = mine.first; block < mine.end; ++block)
      for (int p = 0; p < panels.count(); ++p)
        compute({block * in_block, std::min(units, (block + 1) * in_block)}, p, p + 1);
  });
}

}  // namespace lenet_jax::LENET_JAX_INSTRUCTION_SET
