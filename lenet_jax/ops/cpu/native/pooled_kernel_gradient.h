// dkernel = the gradient of sum(max_pool(convolution(x, kernel)) * dy), from the positions that the pooling chose.
//
// For each output channel, a sum over windows of dy times the patch of x at the chosen position: rows of consecutive
// numbers, held in registers while the windows of one image go by. Where a row is far shorter than a vector, the
// patches of all positions are first copied to consecutive numbers.
//
// Loads that are not aligned take twice the time. Where a few copies of the image, each shifted by other multiples of
// the channels, make every patch aligned in one of them, it is copied so often.
#pragma once

#include "parallel.h"
#include "pooled_geometry.h"
#include "scratch.h"
#include "vector.h"

namespace lenet_jax::LENET_JAX_INSTRUCTION_SET {

// How the image is laid out for its patches, and the sums for the kernel: (kernels, num_rows, vectors) of vectors.
struct PatchLayout {
  bool packed;               // one row of kernel_height * row_length numbers for each position
  int num_rows, row_length;  // of a patch
  int vectors;               // in a row
  int copies;                // shifted ones
  std::ptrdiff_t row_stride, copy_stride;

  std::ptrdiff_t sums_of_channel() const { return static_cast<std::ptrdiff_t>(num_rows) * vectors * kLanes<float>; }

  // Where the patch begins whose first number is number `column` * channels of an image's row.
  std::ptrdiff_t start(int column, int channels) const {
    if (packed) return static_cast<std::ptrdiff_t>(column) * vectors * kLanes<float>;
    const int copy = column % copies;
    return copy * copy_stride + static_cast<std::ptrdiff_t>(column) * channels - copy * channels % kLanes<float>;
  }
};

inline int aligned_copies(int channels) {
  int copies = 1;
  while (copies * channels % kLanes<float>) ++copies;
  return copies <= 4 ? copies : 1;
}

inline PatchLayout make_patch_layout(const Stage& stage) {
  constexpr int kWidth = kLanes<float>;
  PatchLayout layout;
  layout.packed = 4 * stage.row_length() < 3 * kWidth;
  layout.num_rows = layout.packed ? 1 : stage.kernel_height;
  layout.row_length = layout.packed ? stage.kernel_height * stage.row_length() : stage.row_length();
  layout.vectors = divide_rounding_up(layout.row_length, kWidth);
  layout.copies = layout.packed ? 1 : aligned_copies(stage.channels);
  if (layout.packed) {
    layout.row_stride = static_cast<std::ptrdiff_t>(stage.columns) * stage.pool_width * layout.vectors * kWidth;
    layout.copy_stride = stage.rows * stage.pool_height * layout.row_stride;
  } else {
    // An odd number of vectors, since rows at a power of two apart would share one set of the cache.
    layout.row_stride = (divide_rounding_up(stage.padded_width() * stage.channels, kWidth) | 1) * kWidth;
    layout.copy_stride = stage.padded_height() * layout.row_stride;
  }
  return layout;
}

// Patches read whole vectors: after the last copy there is room for one more.
inline std::size_t layout_size(const PatchLayout& layout) {
  return layout.copies * layout.copy_stride + 2 * kLanes<float>;
}

inline void copy_shifted(const Stage& stage, const PatchLayout& layout, const float* image, float* to) {
  for (int copy = 0; copy < layout.copies; ++copy) {
    const int shift = copy * stage.channels % kLanes<float>;
    for (int row = 0; row < stage.padded_height(); ++row, to += layout.row_stride)
      copy_padded_row(stage, image, row, shift, layout.row_stride, to);
  }
  std::memset(to, 0, 2 * kLanes<float> * sizeof(float));
}

// Copies the patch of every position to consecutive numbers. Each row is copied as a whole vector, since rows are
// shorter than that: both arrays have room for one more, and the next row or patch overwrites what is too much.
inline void pack_patches(const Stage& stage, const PatchLayout& layout, const float* padded, std::ptrdiff_t stride,
                         float* to) {
  const int length = stage.row_length();
  for (int row = 0; row < stage.rows * stage.pool_height; ++row)
    for (int column = 0; column < stage.columns * stage.pool_width; ++column, to += layout.vectors * kLanes<float>) {
      const float* from = padded + row * stride + static_cast<std::ptrdiff_t>(column) * stage.channels;
      for (int i = 0; i < stage.kernel_height; ++i) store(to + i * length, load(from + i * stride));
    }
}

// What the sums of one image share.
struct Patches {
  const Stage* stage;
  const PatchLayout* layout;
  const std::int32_t* starts;  // (columns, positions)
  const float* x;
  const float* dy;
  const std::uint8_t* index;  // (rows, columns, kernels) as dy
};

// Adds the patches of `Channels` output channels, `Rows` rows of `Vectors` vectors from number `at` on, to their sums.
template <int Rows, int Vectors, int Channels>
void add_patches(const Patches& patches, std::ptrdiff_t at, int channel, float* sums, int vector) {
  constexpr int kWidth = kLanes<float>;
  const Stage& stage = *patches.stage;
  const PatchLayout& layout = *patches.layout;
  const std::ptrdiff_t row_stride = layout.row_stride, window_stride = stage.pool_height * row_stride;
  const std::ptrdiff_t channel_sums = layout.sums_of_channel(), row_sums = layout.vectors * kWidth;
  sums += channel * channel_sums + vector * kWidth;
  Vector<float> sum[Channels][Rows][Vectors];
#pragma GCC unroll 8
  for (int c = 0; c < Channels; ++c)
#pragma GCC unroll 4
    for (int row = 0; row < Rows; ++row)
#pragma GCC unroll 28
      for (int v = 0; v < Vectors; ++v) sum[c][row][v] = load(sums + c * channel_sums + row * row_sums + v * kWidth);
  const float* dy = patches.dy + channel;
  const std::uint8_t* index = patches.index + channel;
  const int positions = stage.positions(), kernels = stage.kernels;
  for (int i = 0; i < stage.rows; ++i) {
    const float* x = patches.x + at + i * window_stride;
    const std::int32_t* starts = patches.starts;
    for (int j = 0; j < stage.columns; ++j, starts += positions, dy += kernels, index += kernels) {
#pragma GCC unroll 8
      for (int c = 0; c < Channels; ++c) {
        const Vector<float> weight = broadcast(dy[c]);
        const float* patch = x + starts[index[c]];
#pragma GCC unroll 4
        for (int row = 0; row < Rows; ++row)
#pragma GCC unroll 28
          for (int v = 0; v < Vectors; ++v) sum[c][row][v] += weight * load(patch + row * row_stride + v * kWidth);
      }
    }
  }
#pragma GCC unroll 8
  for (int c = 0; c < Channels; ++c)
#pragma GCC unroll 4
    for (int row = 0; row < Rows; ++row)
#pragma GCC unroll 28
      for (int v = 0; v < Vectors; ++v) store(sums + c * channel_sums + row * row_sums + v * kWidth, sum[c][row][v]);
}

constexpr int kMostSums = kRegisters - 4;

template <int Rows, int Vectors>
void add_channels(const Patches& patches, std::ptrdiff_t at, int begin, int end, float* sums, int vector) {
  // More channels at once hide the additions' latency where a patch is small.
  constexpr int kChannels = std::max(1, std::min(8, kRegisters / 2 / (Rows * Vectors)));
  int channel = begin;
  for (; channel + kChannels <= end; channel += kChannels)
    add_patches<Rows, Vectors, kChannels>(patches, at, channel, sums, vector);
  for (; channel < end; ++channel) add_patches<Rows, Vectors, 1>(patches, at, channel, sums, vector);
}

template <int Vectors, int Rows>
void add_some_rows(int rows, const Patches& patches, std::ptrdiff_t at, int begin, int end, float* sums, int vector) {
  if (rows == Rows) add_channels<Rows, Vectors>(patches, at, begin, end, sums, vector);
  else if constexpr (Rows > 1) add_some_rows<Vectors, Rows - 1>(rows, patches, at, begin, end, sums, vector);
}

template <int Vectors>
void add_vectors(int vectors, const Patches& patches, int begin, int end, float* sums, int vector) {
  if (vectors == Vectors) {
    constexpr int kRows = std::max(1, std::min(4, kMostSums / Vectors));
    const PatchLayout& layout = *patches.layout;
    in_parts(layout.num_rows, kRows, [&](int first, int rows) {
      add_some_rows<Vectors, kRows>(rows, patches, first * layout.row_stride + vector * kLanes<float>, begin, end,
                                    sums + static_cast<std::ptrdiff_t>(first) * layout.vectors * kLanes<float>, vector);
    });
  } else if constexpr (Vectors > 1) {
    add_vectors<Vectors - 1>(vectors, patches, begin, end, sums, vector);
  }
}

// How the work is divided, by shape alone: images in groups, each with sums of its own, added in their order at the
// end, and channels in blocks, for which the image is laid out again.
struct Division {
  int groups, blocks;
};

inline Division divide(const Stage& stage, const PatchLayout& layout) {
  constexpr int kTasks = 8;
  constexpr std::ptrdiff_t kMostNumbers = 1 << 18;  // of all groups: they are to stay in the second cache
  const std::ptrdiff_t sums = stage.kernels * layout.sums_of_channel();
  const int groups = std::clamp<int>(kMostNumbers / sums, 1, std::min(kTasks, stage.batch));
  const int blocks = std::clamp(stage.kernels / 16, 1, kTasks / groups);
  return {groups, blocks};
}

// dkernel (kernel_height * row_length, kernels) = the sum of the groups' sums (kernels, num_rows, vectors).
inline void add_groups(const Stage& stage, const PatchLayout& layout, int groups, const float* sums, int begin, int end,
                       float* dkernel) {
  constexpr int kWidth = kLanes<float>;
  const std::ptrdiff_t channel_sums = layout.sums_of_channel(), group_sums = stage.kernels * channel_sums;
  for (int row = 0; row < layout.num_rows; ++row)
    for (int i = 0; i < layout.row_length; i += kWidth) {
      const int count = std::min(kWidth, layout.row_length - i);
      float* to = dkernel + static_cast<std::ptrdiff_t>(row * layout.row_length + i) * stage.kernels;
      for (int channel = begin; channel < end; ++channel) {
        const float* from = sums + channel * channel_sums + row * layout.vectors * kWidth + i;
        Vector<float> sum = load(from);
        for (int group = 1; group < groups; ++group) sum += load(from + group * group_sums);
        float numbers[kWidth];
        store(numbers, sum);
        for (int k = 0; k < count; ++k) to[static_cast<std::ptrdiff_t>(k) * stage.kernels + channel] = numbers[k];
      }
    }
}

inline void pooled_kernel_gradient(Pool& pool, const Convolution& convolution, const Window& pooling, const float* x,
                                   const float* dy, const std::uint8_t* index, float* dkernel) {
  static thread_local Scratch sums_memory, starts_memory;
  const Stage stage = make_stage(convolution, pooling);
  const PatchLayout layout = make_patch_layout(stage);
  const std::ptrdiff_t num_sums = stage.kernels * layout.sums_of_channel();
  if (stage.batch == 0) {
    std::memset(dkernel, 0, sizeof(float) * stage.kernel_height * stage.row_length() * stage.kernels);
    return;
  }
  const Division division = divide(stage, layout);
  float* sums = sums_memory.get<float>(division.groups * num_sums);
  std::int32_t* starts = starts_memory.get<std::int32_t>(static_cast<std::size_t>(stage.columns) * stage.positions());
  for (int column = 0; column < stage.columns; ++column)
    for (int position = 0; position < stage.positions(); ++position)
      starts[column * stage.positions() + position] =
          position / stage.pool_width * layout.row_stride +
          layout.start(column * stage.pool_width + position % stage.pool_width, stage.channels);

  parallel(pool, division.groups * division.blocks, [=](int task) {
    static thread_local Scratch image_memory, padded_memory;
    const int group = task / division.blocks, block = task % division.blocks;
    const int begin = stage.kernels * block / division.blocks, end = stage.kernels * (block + 1) / division.blocks;
    float* group_sums = sums + group * num_sums;
    const std::ptrdiff_t channel_sums = layout.sums_of_channel();
    std::fill(group_sums + begin * channel_sums, group_sums + end * channel_sums, 0.0f);
    float* image = image_memory.get<float>(layout_size(layout));
    const std::int64_t batch = stage.batch;
    const int first = batch * group / division.groups, last = batch * (group + 1) / division.groups;
    for (int n = first; n < last; ++n) {
      const float* from = x + static_cast<std::ptrdiff_t>(n) * stage.height * stage.width * stage.channels;
      if (layout.packed) {
        const int length = stage.padded_width() * stage.channels;
        const std::size_t padded_size = static_cast<std::size_t>(stage.padded_height()) * length;
        float* padded = padded_memory.get<float>(padded_size + kLanes<float>);
        for (int row = 0; row < stage.padded_height(); ++row)
          copy_padded_row(stage, from, row, 0, length, padded + static_cast<std::ptrdiff_t>(row) * length);
        pack_patches(stage, layout, padded, length, image);
      } else {
        copy_shifted(stage, layout, from, image);
      }
      const std::ptrdiff_t at = static_cast<std::ptrdiff_t>(n) * stage.rows * stage.columns * stage.kernels;
      const Patches patches{&stage, &layout, starts, image, dy + at, index + at};
      constexpr int kMostPatchVectors = kRegisters >= 32 ? 14 : 12;
      in_parts(layout.vectors, kMostPatchVectors, [&](int vector, int vectors) {
        add_vectors<kMostPatchVectors>(vectors, patches, begin, end, group_sums, vector);
      });
    }
  });
  // The transposition is divided too, by output channels.
  const int parts = std::clamp(stage.kernels / 16, 1, 16);
  parallel(pool, parts, [=](int part) {
    add_groups(stage, layout, division.groups, sums, stage.kernels * part / parts, stage.kernels * (part + 1) / parts,
               dkernel);
  });
}

}  // namespace lenet_jax::LENET_JAX_INSTRUCTION_SET
