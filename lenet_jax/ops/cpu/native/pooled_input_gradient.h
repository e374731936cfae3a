// dx = the gradient of sum(max_pool(convolution(x, kernel)) * dy), from the positions that the pooling chose.
//
// For each window and position of it, the channels that chose the position add a row of the kernel each, times dy, to
// the image: a set of bits says which channels, so that nothing is sorted, and the sums stay in registers. One row of
// the kernel is used for the whole image before the next one, since it then stays in the first cache.
#pragma once

#include "parallel.h"
#include "pooled_geometry.h"
#include "scratch.h"
#include "vector.h"

namespace lenet_jax::LENET_JAX_INSTRUCTION_SET {

// Vectors of a row of the kernel that are summed at once: more would not hide more of the additions' latency.
constexpr int kMostRowVectors = kRegisters >= 32 ? 14 : 12;

// What an image's windows share.
struct ChosenChannels {
  const Stage* stage;
  int num_words;               // of 64 channels
  const std::uint64_t* words;  // (rows, columns, positions, num_words): the channels that chose the position
  const float* dy;             // (rows, columns, kernels)
};

inline void choose_channels(const Stage& stage, const std::uint8_t* index, int num_words, std::uint64_t* words) {
  const int windows = stage.rows * stage.columns, positions = stage.positions();
  for (int window = 0; window < windows; ++window, index += stage.kernels)
    for (int position = 0; position < positions; ++position)
      for (int word = 0; word < num_words; ++word)
        *words++ = equal_bytes(index + 64 * word, std::min(64, stage.kernels - 64 * word), position);
}

// Adds to `dx` the sum of the kernel's rows (each of `Vectors` vectors, `last` numbers in the last one) of the channels
// in `words`, times dy.
template <int Vectors>
LENET_JAX_INLINE void add_rows(const std::uint64_t* words, int num_words, const float* dy, const float* kernel,
                               int last, float* dx) {
  constexpr int kWidth = kLanes<float>;
  Vector<float> sums[Vectors];
#pragma GCC unroll 16
  for (int v = 0; v < Vectors; ++v) sums[v] = Vector<float>{};
  for (int word = 0; word < num_words; ++word, dy += 64, kernel += 64 * Vectors * kWidth)
    for (std::uint64_t bits = words[word]; bits; bits &= bits - 1) {
      const int channel = __builtin_ctzll(bits);
      const Vector<float> weight = broadcast(dy[channel]);
      const float* row = kernel + channel * Vectors * kWidth;
#pragma GCC unroll 16
      for (int v = 0; v < Vectors; ++v) sums[v] += weight * load(row + v * kWidth);
    }
#pragma GCC unroll 16
  for (int v = 0; v < Vectors - 1; ++v) store(dx + v * kWidth, load(dx + v * kWidth) + sums[v]);
  // Beyond the row lie other sums: the numbers added there would be 0, or NaN where dy is not finite.
  float* end = dx + (Vectors - 1) * kWidth;
  store_first(end, load_first(end, last) + sums[Vectors - 1], last);
}

// `dx` is where the kernel's row begins for the first position of the first window.
template <int Vectors>
void add_image(const ChosenChannels& chosen, const float* kernel, int last, std::ptrdiff_t row_stride, float* dx) {
  const Stage& stage = *chosen.stage;
  const std::uint64_t* words = chosen.words;
  const float* dy = chosen.dy;
  for (int row = 0; row < stage.rows; ++row)
    for (int column = 0; column < stage.columns; ++column, dy += stage.kernels)
      for (int i = 0; i < stage.pool_height; ++i) {
        float* to = dx + (row * stage.pool_height + i) * row_stride +
                    static_cast<std::ptrdiff_t>(column) * stage.pool_width * stage.channels;
        for (int j = 0; j < stage.pool_width; ++j, to += stage.channels, words += chosen.num_words)
          add_rows<Vectors>(words, chosen.num_words, dy, kernel, last, to);
      }
}

template <int Vectors>
void add_image(int vectors, const ChosenChannels& chosen, const float* kernel, int last, std::ptrdiff_t row_stride,
               float* dx) {
  if (vectors == Vectors) add_image<Vectors>(chosen, kernel, last, row_stride, dx);
  else if constexpr (Vectors > 1) add_image<Vectors - 1>(vectors, chosen, kernel, last, row_stride, dx);
}

// The kernel as (kernel_height, part of a row, kernels, vectors of the part), with zeros after each row's end.
inline void pack_rows(const Stage& stage, const float* kernel, float* to) {
  constexpr int kWidth = kLanes<float>;
  const int length = stage.row_length();
  for (int row = 0; row < stage.kernel_height; ++row)
    in_parts(divide_rounding_up(length, kWidth), kMostRowVectors, [&](int first, int vectors) {
      const float* from = kernel + static_cast<std::ptrdiff_t>(row * length + first * kWidth) * stage.kernels;
      const int width = vectors * kWidth, count = std::min(width, length - first * kWidth);
      for (int i = 0; i < width; ++i)
        for (int channel = 0; channel < stage.kernels; ++channel)
          to[channel * width + i] = i < count ? from[static_cast<std::ptrdiff_t>(i) * stage.kernels + channel] : 0;
      to += static_cast<std::ptrdiff_t>(stage.kernels) * width;
    });
}

// The gradients of `num_images` images, at `padded` with `row_stride` and `image_stride`.
inline void add_images(const ChosenChannels* chosen, int num_images, const float* kernel, std::ptrdiff_t row_stride,
                       std::ptrdiff_t image_stride, float* padded) {
  constexpr int kWidth = kLanes<float>;
  const Stage& stage = *chosen->stage;
  const int length = stage.row_length();
  for (int row = 0; row < stage.kernel_height; ++row)
    in_parts(divide_rounding_up(length, kWidth), kMostRowVectors, [&](int first, int vectors) {
      const int last = std::min(kWidth, length - (first + vectors - 1) * kWidth);
      for (int image = 0; image < num_images; ++image)
        add_image<kMostRowVectors>(vectors, chosen[image], kernel, last, row_stride,
                                   padded + image * image_stride + row * row_stride + first * kWidth);
      kernel += static_cast<std::ptrdiff_t>(stage.kernels) * vectors * kWidth;
    });
}

// Copies the part of the padded image that is the image; no window reads what lies below or right of it.
inline void copy_image(const Stage& stage, const float* padded, std::ptrdiff_t row_stride, float* dx) {
  const int length = stage.width * stage.channels;
  const int read = std::clamp(stage.padded_width() - stage.left, 0, stage.width) * stage.channels;
  for (int row = 0; row < stage.height; ++row, dx += length) {
    const int count = row + stage.top < stage.padded_height() ? read : 0;
    const float* from = padded + stage.left * stage.channels + (count ? row + stage.top : 0) * row_stride;
    if (count) std::memcpy(dx, from, count * sizeof(float));
    std::memset(dx + count, 0, (length - count) * sizeof(float));
  }
}

inline void pooled_input_gradient(Pool& pool, const Convolution& convolution, const Window& pooling, const float* dy,
                                  const std::uint8_t* index, const float* kernel, float* dx) {
  constexpr int kMostImages = 2;  // at once: a row of the kernel is fetched half as often
  static thread_local Scratch kernel_memory;
  const Stage stage = make_stage(convolution, pooling);
  if (stage.batch == 0) return;
  const int padded_length = round_up(stage.row_length(), kLanes<float>);
  const std::size_t rows = static_cast<std::size_t>(stage.kernel_height) * stage.kernels;
  float* packed = kernel_memory.get<float>(rows * padded_length);
  pack_rows(stage, kernel, packed);
  const int images_at_once = stage.batch >= 32 ? kMostImages : 1;
  parallel(pool, divide_rounding_up(stage.batch, images_at_once), [=](int task) {
    static thread_local Scratch padded_memory, word_memory;
    const int first = task * images_at_once, num_images = std::min(images_at_once, stage.batch - first);
    const std::ptrdiff_t windows = static_cast<std::ptrdiff_t>(stage.rows) * stage.columns;
    const std::ptrdiff_t row_stride = static_cast<std::ptrdiff_t>(stage.padded_width()) * stage.channels;
    const std::ptrdiff_t image_stride = stage.padded_height() * row_stride;
    const int num_words = divide_rounding_up(stage.kernels, 64);
    float* padded = padded_memory.get<float>(num_images * image_stride);
    std::uint64_t* words = word_memory.get<std::uint64_t>(num_images * windows * stage.positions() * num_words);
    std::memset(padded, 0, num_images * image_stride * sizeof(float));
    ChosenChannels chosen[kMostImages];
    for (int i = 0; i < num_images; ++i) {
      chosen[i] = {&stage, num_words, words, dy + (first + i) * windows * stage.kernels};
      choose_channels(stage, index + (first + i) * windows * stage.kernels, num_words, words);
      words += windows * stage.positions() * num_words;
    }
    add_images(chosen, num_images, packed, row_stride, image_stride, padded);
    for (int i = 0; i < num_images; ++i)
      copy_image(stage, padded + i * image_stride, row_stride,
                 dx + static_cast<std::ptrdiff_t>(first + i) * stage.height * stage.width * stage.channels);
  });
}

}  // namespace lenet_jax::LENET_JAX_INSTRUCTION_SET
