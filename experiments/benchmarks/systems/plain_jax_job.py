"""LeNet on plain JAX under Hydra, as most people write it; a job of a sweep by Hydra's basic launcher.

python -m experiments.benchmarks.systems.plain_jax_job -m data=FILE.npz seed=0,1 learning_rate=0.1,0.3
"""

import json
import time
from dataclasses import dataclass, field
from pathlib import Path

import hydra
import jax
import jax.numpy as jnp
import numpy as np
import optax
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from jax import lax
from omegaconf import MISSING

from experiments.benchmarks import problem
from experiments.benchmarks.systems.plain_jax import logits


@dataclass
class Options:
    """The configuration of a job."""

    data: str = MISSING
    seed: int = 0
    learning_rate: float = 0.1
    epochs: int = 1
    batch: int = 50
    maps: list[int] = field(default_factory=lambda: [20, 50])
    hidden: int = 500
    scan: bool = False


ConfigStore.instance().store("options", Options)


@hydra.main(version_base="1.3", config_path=None, config_name="options")
def main(options: Options) -> None:
    """Train, and write `result.json` into the job's directory."""
    begin = time.perf_counter()
    network = problem.lenet(tuple(options.maps), options.hidden)
    arrays = np.load(options.data)
    splits = {
        name: (
            jnp.array(arrays[f"{name}_images"], jnp.float32) / problem.PIXEL_DIVISOR,
            jnp.array(arrays[f"{name}_labels"]),
        )
        for name in ("train", "validation", "test")
    }
    optimizer = optax.sgd(options.learning_rate)
    params = jax.tree.map(jnp.array, problem.initialize(network, options.seed))
    state = params, optimizer.init(params)

    def loss_fn(params, images, labels):
        return optax.softmax_cross_entropy_with_integer_labels(logits(network, params, images), labels).mean()

    def step(state, images, labels):
        params, opt_state = state
        loss, grads = jax.value_and_grad(loss_fn)(params, images, labels)
        updates, opt_state = optimizer.update(grads, opt_state, params)
        return (optax.apply_updates(params, updates), opt_state), loss

    def epoch(state, images, labels, order):
        return lax.scan(lambda state, batch: step(state, images[batch], labels[batch]), state, order)

    @jax.jit
    def accuracy(params, images, labels):
        return (logits(network, params, images).argmax(-1) == labels).mean()

    jit_step, jit_epoch = jax.jit(step, donate_argnums=0), jax.jit(epoch, donate_argnums=0)
    images, labels = splits["train"]
    rng = np.random.default_rng(options.seed)
    for _ in range(options.epochs):
        steps = len(labels) // options.batch
        order = rng.permutation(len(labels))[: steps * options.batch].reshape(steps, options.batch)
        if options.scan:
            state, losses = jit_epoch(state, images, labels, order)
        else:
            losses = []
            for batch in order:
                state, loss = jit_step(state, images[batch], labels[batch])
                losses.append(loss)
        loss, validation = float(np.mean(jax.device_get(losses))), float(accuracy(state[0], *splits["validation"]))
        print(f"loss {loss:.4f}, validation {validation:.2%}")
    result = {"validation_accuracy": validation, "test_accuracy": float(accuracy(state[0], *splits["test"]))}
    directory = Path(HydraConfig.get().runtime.output_dir)
    (directory / "result.json").write_text(json.dumps({**result, "seconds": time.perf_counter() - begin}))


if __name__ == "__main__":
    main()
