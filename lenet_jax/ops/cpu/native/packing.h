// Packs kernels (taps, channels / groups, O) into panels.
#pragma once

#include "panels.h"
#include "parallel.h"
#include "transpose.h"

namespace lenet_jax::LENET_JAX_INSTRUCTION_SET {

// Fewer numbers than this are not worth waking another thread for.
constexpr Index kLeastShared = 1 << 16;

// Rows are taps and input channels, columns `kernels` output channels of each group.
template <class T>
void pack(Pool& pool, const Panels& panels, int groups, int kernels, const T* kernel, T* packed) {
  const Index row_length = static_cast<Index>(groups) * kernels;
  const int parts = panels.rows * row_length < kLeastShared ? 1 : 16;
  parallel(pool, parts, [&, kernel, packed](int part) {
    for (const Panel& panel : panels.list) {
      const int width = panel.vectors * kLanes<T>;
      const T* from = kernel + static_cast<Index>(panel.group) * kernels + panel.first;
      for (Index row = panels.rows * part / parts; row < panels.rows * (part + 1) / parts; ++row)
        for (int lane = 0; lane < width; lane += kLanes<T>)
          store(packed + panel.weights + row * width + lane,
                load_first(from + row * row_length + lane, kernels - panel.first - lane));
    }
  });
}

// For the gradient of the input, which is the correlation's output: columns are the `channels` of each group, rows the
// taps listed in `taps` and the `kernels` of each group.
template <class T>
void pack_transposed(Pool& pool, const Panels& panels, const std::vector<Index>& taps, int groups, int channels,
                     int kernels, const T* kernel, T* packed) {
  const Index row_length = static_cast<Index>(groups) * kernels;
  const int num_taps = static_cast<int>(taps.size());
  const int parts = panels.rows * channels < kLeastShared ? 1 : std::min(16, num_taps);
  parallel(pool, parts, [&, kernel, packed](int part) {
    const Range range = part_of(num_taps, part, parts);
    for (int tap = range.first; tap < range.end; ++tap) {
      for (const Panel& panel : panels.list) {
        const int width = panel.vectors * kLanes<T>;
        T* to = packed + panel.weights + static_cast<Index>(tap) * kernels * width;
        for (int lane = 0; lane < width; lane += kLanes<T>) {
          const int channel = panel.first + lane;
          const T* from = kernel + (taps[tap] * channels + channel) * row_length + panel.group * kernels;
          for (int k = 0; k < kernels; k += kLanes<T>)
            transpose(from + k, row_length, channels - channel, kernels - k, to + k * width + lane, width);
        }
      }
    }
  });
}

}  // namespace lenet_jax::LENET_JAX_INSTRUCTION_SET
