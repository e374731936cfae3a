"""lenet_jax: functional, reproducible training of small convolutional networks in JAX.

What to use for what:

- an operation on arrays: `conv1d`, `conv2d`, `conv3d`, `depthwise_conv2d`, `separable_conv2d`, `conv2d_transpose` (1-D
  and 3-D too), `max_pool`, `avg_pool`, `local_response_norm`, `extract_patches`, `sliding_windows`. Images are
  (N, H, W, C), kernels (K_h, K_w, I, O), padding is TensorFlow's; kernels are not flipped (Theano flips them). Initial
  weights: `initializers`;
- a network: `create_model("lenet")`, one of `MODELS`; of `layers`, by `layers.make_model`; of flax, Equinox or two
  functions, by `interop.to_model`. `summarize` and `activations` look into it;
- data: `load_dataset`, or a `Dataset` of `Split`s of your arrays;
- training: `make_train(model, make_optimizer("adam"), config.TrainerConfig())` is a whole run as one function, to `jit`
  and `vmap`; `make_train_lanes` many runs; `objectives` and `Objective` other losses; `training.train_step` a single
  step;
- results: `TrainResult`, whose `status` is a `Status`; `evaluate`, `predict_logits`, `confusion_matrix`,
  `save_variables`, `load_variables`;
- runs with records, sweeps, reports: the command `lenet-jax`, or `run` and `sweep` from Python, with names or objects;
  `open_run` and `open_sweep` read what they leave.

Bad input raises `InputError`, whose message says what to do.
"""

# The names are listed in `__init__.pyi` and imported when they are first used, so that the command line answers without
# importing jax.

from typing import Any

import lazy_loader

_get, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("lenet-jax")
    return _get(name)
