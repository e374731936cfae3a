// Temporary arrays, aligned to a cache line, that each thread keeps from call to call.
#pragma once

#include <cstddef>
#include <cstdlib>
#include <new>

namespace lenet_jax {

class Scratch {
 public:
  ~Scratch() { std::free(memory_); }

  // Returns room for `count` numbers, uninitialized; what was returned before is no longer valid.
  template <class T>
  T* get(std::size_t count) {
    const std::size_t bytes = (count * sizeof(T) + 4095) / 4096 * 4096;
    if (bytes > bytes_) {
      std::free(memory_);
      memory_ = std::aligned_alloc(4096, bytes);
      bytes_ = memory_ ? bytes : 0;
      if (!memory_) throw std::bad_alloc();
    }
    return static_cast<T*>(memory_);
  }

 private:
  void* memory_ = nullptr;
  std::size_t bytes_ = 0;
};

}  // namespace lenet_jax
