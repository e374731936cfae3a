"""The keys of `trainer` and `sweep`."""

from lenet_jax.rules import COUNT, DECAY, FRACTION, ITERATIONS, POSITIVE, SWITCH, Rule, one_of, optional
from lenet_jax.sections import key, section


@section("trainer.early_stopping")
class EarlyStoppingConfig:
    """The patience rule of the Theano tutorials, counted in minibatch iterations."""

    enabled: bool = key(SWITCH, default=True)
    patience: int = key(ITERATIONS, default=10_000)  # iterations that are always looked at
    patience_increase: int = key(COUNT, default=2)  # then patience is at least this times the iteration
    improvement_threshold: float = key(FRACTION, default=0.995)  # significant: below this times the best


@section("trainer")
class TrainerConfig:
    """How long and in what portions to train."""

    batch_size: int | None = key(optional(COUNT), default=50)  # images a step, a ragged end is left out; null: all
    max_epochs: int = key(COUNT, default=20)
    shuffle: bool = key(SWITCH, default=True)  # a new order each epoch; false: the order of the file
    checkpoint_every: int | None = key(optional(COUNT), default=1)  # epochs from one to the next; null: none
    matmul_precision: str = key(one_of("default", "high", "highest"), default="highest")  # highest: no TF32
    compute_dtype: str = key(one_of("float32", "bfloat16"), default="float32")  # of activations; parameters: float32
    num_portions: int = key(COUNT, default=1)  # of a batch, one after another, whose gradients are added: less memory
    label_smoothing: float = key(DECAY, default=0.0)  # probability that all classes share; 0.1 for ImageNet
    clip_norm: float | None = key(optional(POSITIVE), default=None)  # gradients that are longer are cut to it
    ema_decay: float | None = key(optional(DECAY), default=None)  # of averaged weights, which are then measured
    deterministic: bool = key(SWITCH, default=False)  # on a GPU: the same bits each time, slower
    early_stopping: EarlyStoppingConfig = key(
        Rule(lambda v: isinstance(v, EarlyStoppingConfig), "an EarlyStoppingConfig"), default=EarlyStoppingConfig()
    )


# ---- sweep: many runs -----------------------------------------------------------------------------------------------


@section("sweep")
class SweepConfig:
    """How the jobs of a multirun are done; nothing of it decides the result of one."""

    strategy: str = key(one_of("auto", "map", "devices", "vmap"), default="auto")  # see lenet_jax/runs/programs.py
    max_lanes: int | None = key(optional(COUNT), default=None)  # jobs trained at a time; null: a device each, 64 on GPU
    on_failure: str = key(one_of("continue", "stop"), default="continue")  # what becomes of the jobs that wait
