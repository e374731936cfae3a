// How a row of outputs is cut into tiles.
#pragma once

#include <vector>

#include "axis.h"
#include "tile.h"

namespace lenet_jax::LENET_JAX_INSTRUCTION_SET {

// The number of positions in the next tile, when `left` are left: nearly equal tiles waste least.
inline int next_tile(int left, int most) { return static_cast<int>(ceil_div(left, ceil_div(left, most))); }

// Estimated cycles for the products of one input channel with a row of outputs: multiply-adds and loads, two a cycle,
// and never less than the latency of a sum.
inline double row_cycles(int vectors, int outputs) {
  double cycles = 0;
  for (int left = outputs; left > 0;) {
    const int positions = next_tile(left, most_positions(vectors));
    cycles += std::max({positions * vectors / 2. + .3, (positions + vectors) / 2. + .3, 4.});
    left -= positions;
  }
  return cycles;
}

struct Tile {
  int first, positions;
  bool at_edge;
};

// The tiles of a row, the same for each row; `vectors` wide. A row's spans are the units of work that tasks share.
class RowTiles {
 public:
  RowTiles(const Axis& columns, int vectors) : columns_(columns), vectors_(vectors) {
    for (int span = 0; span < num_spans(columns); ++span) {
      first_of_span_.push_back(static_cast<int>(tiles_.size()));
      const Range range = part_of(columns.outputs, span, num_spans(columns));
      for (int first = range.first; first < range.end; first += tiles_.back().positions) add(first, range.end);
    }
    first_of_span_.push_back(static_cast<int>(tiles_.size()));
  }

  static int num_spans(const Axis& columns) { return static_cast<int>(ceil_div(columns.outputs, kMostInSpan)); }

  Range span(int index) const { return {first_of_span_[index], first_of_span_[index + 1]}; }
  const Tile& operator[](int index) const { return tiles_[index]; }

  // For each tap, the positions of the tile at which it meets an input; null if that is all of them for all taps.
  const Range* inside(int index) const {
    return tiles_[index].at_edge ? &inside_[static_cast<std::size_t>(index) * columns_.taps] : nullptr;
  }

 private:
  static constexpr int kMostInSpan = 112;

  // Within a tile, the positions where `tap` meets an input.
  Range inside_tile(int first, int positions, int tap) const {
    const Range range = columns_.outputs_inside(tap);
    const int begin = std::clamp(range.first - first, 0, positions);
    return {begin, std::clamp(range.end - first, begin, positions)};
  }

  bool is_computable(int first, int positions) const {
    for (int tap = 0; tap < columns_.taps; ++tap) {
      const Range inside = inside_tile(first, positions, tap);
      const int missing = positions - inside.size();
      if (missing < positions && missing > 0 &&
          (missing > kMostMissing || (inside.first > 0 && inside.end < positions)))
        return false;
    }
    return true;
  }

  void add(int first, int end) {
    int positions = next_tile(end - first, most_positions(vectors_));
    while (!is_computable(first, positions)) --positions;
    bool at_edge = false;
    for (int tap = 0; tap < columns_.taps; ++tap) {
      inside_.push_back(inside_tile(first, positions, tap));
      at_edge |= inside_.back().size() < positions;
    }
    tiles_.push_back({first, positions, at_edge});
  }

  Axis columns_;
  int vectors_;
  std::vector<int> first_of_span_;
  std::vector<Tile> tiles_;
  std::vector<Range> inside_;
};

}  // namespace lenet_jax::LENET_JAX_INSTRUCTION_SET
