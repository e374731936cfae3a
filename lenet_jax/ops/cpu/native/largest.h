// The largest of several values and its position: the first of equal ones, and a NaN before all others.
#pragma once

#include "vector.h"

namespace lenet_jax::LENET_JAX_INSTRUCTION_SET {

struct Largest {
  Vector<float> value;
  Vector<std::int32_t> position;
};

LENET_JAX_INLINE Largest largest_of_one(Vector<float> value, int position) {
  return {value, broadcast<std::int32_t>(position)};
}

// To be called in the order of the positions.
LENET_JAX_INLINE void include(Largest& largest, Vector<float> value, int position) {
#if defined(__AVX512F__)
  const __mmask16 not_nan = _mm512_cmp_ps_mask(largest.value, largest.value, _CMP_ORD_Q);
  const __mmask16 larger = _mm512_mask_cmp_ps_mask(not_nan, value, largest.value, _CMP_NLE_UQ);
  largest.value = _mm512_mask_mov_ps(largest.value, larger, value);
  largest.position = (Vector<std::int32_t>)_mm512_mask_mov_epi32((__m512i)largest.position, larger,
                                                                 _mm512_set1_epi32(position));
#else
  const Vector<std::int32_t> larger = (largest.value == largest.value) & ~(value <= largest.value);
  largest.value = larger ? value : largest.value;
  largest.position = larger ? broadcast<std::int32_t>(position) : largest.position;
#endif
}

}  // namespace lenet_jax::LENET_JAX_INSTRUCTION_SET
