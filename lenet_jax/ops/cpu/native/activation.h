// The functions that end a layer.
#pragma once

#include "kernels.h"
#include "vector.h"

namespace lenet_jax::LENET_JAX_INSTRUCTION_SET {

// The rational approximation of XLA and Eigen; NaN stays NaN.
LENET_JAX_INLINE Vector<float> tanh_of(Vector<float> x) {
  const Vector<float> bound = broadcast(7.99881172180175781f);
  Vector<float> a = x > bound ? bound : x;
  a = a < -bound ? -bound : a;
  const Vector<float> s = a * a;
  Vector<float> p = s * -2.76076847742355e-16f + 2.00018790482477e-13f;
  p = s * p + -8.60467152213735e-11f;
  p = s * p + 5.12229709037114e-08f;
  p = s * p + 1.48572235717979e-05f;
  p = s * p + 6.37261928875436e-04f;
  p = s * p + 4.89352455891786e-03f;
  Vector<float> q = s * 1.19825839466702e-06f + 1.18534705686654e-04f;
  q = s * q + 2.26843463243900e-03f;
  q = s * q + 4.89352518554385e-03f;
  // Close to 0 the quotient would lose digits, and tanh(x) = x to the last of them.
  const Vector<float> small = broadcast(0.0004f);
  return (x < small) & (x > -small) ? x : a * p / q;
}

// The largest of x and 0, and NaN of NaN.
LENET_JAX_INLINE Vector<float> relu_of(Vector<float> x) {
  const Vector<float> zero{};
  return x <= zero ? zero : x;
}

LENET_JAX_INLINE Vector<float> activate(Activation activation, Vector<float> x) {
  if (activation == Activation::kTanh) return tanh_of(x);
  return activation == Activation::kRelu ? relu_of(x) : x;
}

}  // namespace lenet_jax::LENET_JAX_INSTRUCTION_SET
