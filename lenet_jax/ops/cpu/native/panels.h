// Weights are packed in panels as wide as a tile: its rows, one for each tap and input channel, then follow each other
// in the order of use, which caches and their prefetchers handle best.
#pragma once

#include <vector>

#include "row_tiles.h"

namespace lenet_jax::LENET_JAX_INSTRUCTION_SET {

// Some channels of the output: `vectors` vectors of group `group`, from its channel `first` on.
struct Panel {
  int group, first, vectors;
  Index weights;  // where its packed weights begin
};

struct Panels {
  std::vector<Panel> list;
  Index size = 0;  // of the packed weights
  Index rows = 0;  // of each panel

  int count() const { return static_cast<int>(list.size()); }
};

// Returns the width of panels, in vectors, that takes the fewest cycles for rows of `outputs` positions.
template <class T>
int choose_vectors(int kernels, int outputs) {
  const int vectors = static_cast<int>(ceil_div(kernels, kLanes<T>));
  int best = 1;
  double fewest = 1e30;
  for (int width = 1; width <= kMostVectors; ++width) {
    const double rest = vectors % width ? row_cycles(vectors % width, outputs) : 0;
    const double cycles = vectors / width * row_cycles(width, outputs) + rest;
    if (cycles < fewest - 1e-9) fewest = cycles, best = width;
  }
  return best;
}

// Divides the `kernels` output channels of each group into panels of `width` vectors, the last one narrower.
template <class T>
Panels make_panels(int groups, int kernels, Index rows, int width) {
  const int vectors = static_cast<int>(ceil_div(kernels, kLanes<T>));
  Panels panels;
  panels.rows = rows;
  for (int group = 0; group < groups; ++group) {
    for (int first = 0; first < vectors; first += width) {
      const int count = std::min(width, vectors - first);
      panels.list.push_back({group, first * kLanes<T>, count, panels.size});
      panels.size += rows * count * kLanes<T>;
    }
  }
  return panels;
}

}  // namespace lenet_jax::LENET_JAX_INSTRUCTION_SET
