// Work shared by the threads of XLA's own pool.
#pragma once

#include <algorithm>
#include <atomic>
#include <functional>
#include <memory>
#include <thread>

namespace lenet_jax {

// XLA's pool, or one thread where there is none.
class Pool {
 public:
  virtual ~Pool() = default;
  virtual int num_threads() const = 0;
  virtual void schedule(std::function<void()> task) = 0;
};

// Runs work(task) for each task in 0..num_tasks-1 on the pool's threads and on this one. This thread takes tasks too and
// waits only for those that have begun, so that calls from every thread of the pool at once cannot block each other.
// What a task computes must not depend on the thread or on how many there are: results then have the same bits on
// every machine of one instruction set.
template <class Work>
void parallel(Pool& pool, int num_tasks, Work work) {
  struct Progress {
    std::atomic<int> next{0}, done{0};
  };
  auto progress = std::make_shared<Progress>();
  auto take_tasks = [progress, num_tasks, work]() {
    for (int task; (task = progress->next.fetch_add(1)) < num_tasks;) {
      work(task);
      progress->done.fetch_add(1, std::memory_order_release);
    }
  };
  const int helpers = std::min(pool.num_threads(), num_tasks) - 1;
  for (int i = 0; i < helpers; ++i) pool.schedule(take_tasks);
  take_tasks();
  while (progress->done.load(std::memory_order_acquire) < num_tasks) std::this_thread::yield();
}

}  // namespace lenet_jax
