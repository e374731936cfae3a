// One register of numbers. The compiler's vector types serve AVX2, AVX-512, NEON and plain SSE2 with the same source;
// each instruction set is a compilation of its own, in a namespace of its own (see kernels.h).
#pragma once

#include <cstdint>
#include <cstring>

#if defined(__AVX2__) || defined(__AVX512F__)
#include <immintrin.h>
#endif

#include "instruction_set.h"

namespace lenet_jax::LENET_JAX_INSTRUCTION_SET {

#if defined(__AVX512F__)
constexpr int kRegisterBytes = 64;
constexpr int kRegisters = 32;
#elif defined(__AVX2__)
constexpr int kRegisterBytes = 32;
constexpr int kRegisters = 16;
#else
constexpr int kRegisterBytes = 16;
constexpr int kRegisters = 16;
#endif

template <class T>
struct Register {
  typedef T Vector __attribute__((vector_size(kRegisterBytes)));
};
template <class T>
using Vector = typename Register<T>::Vector;

template <class T>
constexpr int kLanes = kRegisterBytes / sizeof(T);

#define LENET_JAX_INLINE inline __attribute__((always_inline))

template <class T>
LENET_JAX_INLINE Vector<T> broadcast(T value) {
  return value - Vector<T>{};
}

template <class T>
LENET_JAX_INLINE Vector<T> load(const T* from) {
  Vector<T> value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

template <class T>
LENET_JAX_INLINE void store(T* to, Vector<T> value) {
  std::memcpy(to, &value, sizeof value);
}

// The first `count` numbers at `from`, and zeros; nothing beyond them is read. `count` may be 0 or less.
template <class T>
LENET_JAX_INLINE Vector<T> load_first(const T* from, int count) {
  if (count >= kLanes<T>) return load(from);
  Vector<T> value{};
  if (count > 0) std::memcpy(&value, from, count * sizeof(T));
  return value;
}

// Writes the first `count` numbers and nothing beyond them. `count` may be 0 or less.
template <class T>
LENET_JAX_INLINE void store_first(T* to, Vector<T> value, int count) {
  if (count >= kLanes<T>) return store(to, value);
  if (count > 0) std::memcpy(to, &value, count * sizeof(T));
}

#if defined(__AVX512F__)
LENET_JAX_INLINE __mmask16 first_lanes(int count) {
  return count >= 16 ? 0xFFFF : count <= 0 ? 0 : static_cast<__mmask16>((1u << count) - 1);
}
template <>
LENET_JAX_INLINE Vector<float> load_first<float>(const float* from, int count) {
  return _mm512_maskz_loadu_ps(first_lanes(count), from);
}
template <>
LENET_JAX_INLINE void store_first<float>(float* to, Vector<float> value, int count) {
  _mm512_mask_storeu_ps(to, first_lanes(count), value);
}
#elif defined(__AVX2__)
LENET_JAX_INLINE __m256i first_lanes(int count) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(count), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
template <>
LENET_JAX_INLINE Vector<float> load_first<float>(const float* from, int count) {
  return _mm256_maskload_ps(from, first_lanes(count));
}
template <>
LENET_JAX_INLINE void store_first<float>(float* to, Vector<float> value, int count) {
  _mm256_maskstore_ps(to, first_lanes(count), value);
}
#endif

}  // namespace lenet_jax::LENET_JAX_INSTRUCTION_SET
