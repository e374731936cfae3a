// Sums over all positions of each channel: batch normalization and its gradient.
#pragma once

#include <algorithm>
#include <cstdint>

#include "axis.h"
#include "parallel.h"
#include "scratch.h"
#include "vector.h"

namespace lenet_jax::LENET_JAX_INSTRUCTION_SET {

constexpr int kBlockRows = 64;      // added in float32; blocks are added in float64
constexpr int kPanelVectors = 4;    // of channels that are added together
constexpr Index kPartSize = 32768;  // numbers that are worth a task

// The numbers x relative to the center, and their squares.
struct Moments {
  const float *x, *center;

  LENET_JAX_INLINE void add(Index at, int channel, int lanes, Vector<float>& first, Vector<float>& second) const {
    const Vector<float> difference = load_first(x + at, lanes) - load_first(center + channel, lanes);
    first += difference;
    second += difference * difference;
  }
};

// The numbers y, and their products with x relative to the center.
struct Products {
  const float *y, *x, *center;

  LENET_JAX_INLINE void add(Index at, int channel, int lanes, Vector<float>& first, Vector<float>& second) const {
    const Vector<float> value = load_first(y + at, lanes);
    first += value;
    second += value * (load_first(x + at, lanes) - load_first(center + channel, lanes));
  }
};

// Adds the terms of a block of rows at kVectors vectors of channels, the last of them of `lanes` channels.
template <int kVectors, class Terms>
LENET_JAX_INLINE void add_panel(const Terms& terms, Index first_row, Index end_row, int channels, int channel,
                                int lanes, double* first, double* second) {
  Vector<float> sums[2][kVectors]{};
  for (Index row = first_row; row < end_row; ++row) {
    LENET_JAX_UNROLL
    for (int v = 0; v < kVectors; ++v) {
      const int at = channel + v * kLanes<float>;
      terms.add(row * channels + at, at, kVectors == 1 ? lanes : kLanes<float>, sums[0][v], sums[1][v]);
    }
  }
  for (int v = 0; v < kVectors; ++v) {
    for (int lane = 0; lane < (kVectors == 1 ? lanes : kLanes<float>); ++lane) {
      first[channel + v * kLanes<float> + lane] += sums[0][v][lane];
      second[channel + v * kLanes<float> + lane] += sums[1][v][lane];
    }
  }
}

// Returns the sums of both terms over the rows, (2, C), in memory that is valid until this thread's next call. How the
// rows are divided depends on the shape alone, and so do the bits.
template <class Terms>
const double* sum_rows(Pool& pool, Index rows, int channels, const Terms& terms) {
  static thread_local Scratch scratch;
  const Index most = std::clamp<Index>(rows * channels / kPartSize, 1, 64);
  const int num_parts = static_cast<int>(std::min(most, std::max<Index>(rows, 1)));
  double* const sums = scratch.get<double>(static_cast<Index>(num_parts) * 2 * channels);
  parallel(pool, num_parts, [=](int part) {
    double* const first = sums + static_cast<Index>(part) * 2 * channels;
    double* const second = first + channels;
    std::fill_n(first, 2 * channels, 0.0);
    const Index end = rows * (part + 1) / num_parts;
    for (Index row = rows * part / num_parts; row < end; row += kBlockRows) {
      const Index last = std::min(row + kBlockRows, end);
      int channel = 0;
      for (; channel + kPanelVectors * kLanes<float> <= channels; channel += kPanelVectors * kLanes<float>)
        add_panel<kPanelVectors>(terms, row, last, channels, channel, kLanes<float>, first, second);
      for (; channel < channels; channel += kLanes<float>)
        add_panel<1>(terms, row, last, channels, channel, std::min(kLanes<float>, channels - channel), first, second);
    }
  });
  for (int part = 1; part < num_parts; ++part)
    for (Index i = 0; i < 2 * channels; ++i) sums[i] += sums[static_cast<Index>(part) * 2 * channels + i];
  return sums;
}

// Mean and (biased) variance of each channel of x (rows, C). The sums are relative to the mean of the first rows, from
// which the mean of all differs little, so that nothing is lost when its square is subtracted.
inline void channel_moments(Pool& pool, std::int64_t rows, int channels, const float* x, float* mean, float* variance) {
  const Index first_rows = std::min<Index>(rows, kBlockRows);
  std::fill_n(mean, channels, 0.0f);
  for (Index row = 0; row < first_rows; ++row)
    for (int channel = 0; channel < channels; ++channel) mean[channel] += x[row * channels + channel] / first_rows;
  const double* const sums = sum_rows(pool, rows, channels, Moments{x, mean});
  for (int channel = 0; channel < channels; ++channel) {
    const double shift = sums[channel] / rows;
    mean[channel] = static_cast<float>(mean[channel] + shift);
    variance[channel] = static_cast<float>(std::max(sums[channels + channel] / rows - shift * shift, 0.0));
  }
}

// The sums of y, and of y * (x - center), over the rows of each channel: (2, C).
inline void channel_sums(Pool& pool, std::int64_t rows, int channels, const float* y, const float* x, const float* center,
                         float* sums) {
  const double* const found = sum_rows(pool, rows, channels, Products{y, x, center});
  std::transform(found, found + 2 * channels, sums, [](double sum) { return static_cast<float>(sum); });
}

}  // namespace lenet_jax::LENET_JAX_INSTRUCTION_SET
