"""The keys of `optimizer` and `schedule`."""

from lenet_jax.rules import COUNTS, DECAY, FRACTION, NON_NEGATIVE, POSITIVE, one_of
from lenet_jax.sections import key, section

# ---- optimizer ------------------------------------------------------------------------------------------------------
# `learning_rate`, `momentum` and `weight_decay` are traced values: changing one never recompiles a program.


@section("optimizer")
class SgdConfig:
    """Plain stochastic gradient descent."""

    name: str = key(one_of("sgd"), default="sgd")
    learning_rate: float = key(POSITIVE, default=0.1)  # 0.01 to 0.5
    weight_decay: float = key(NON_NEGATIVE, default=0.0)  # L2, added to the gradient; 1e-5 to 1e-3


@section("optimizer")
class MomentumConfig:
    """Gradient descent with heavy-ball momentum (Polyak 1964)."""

    name: str = key(one_of("momentum"), default="momentum")
    learning_rate: float = key(POSITIVE, default=0.02)  # 0.001 to 0.1
    momentum: float = key(DECAY, default=0.9)
    weight_decay: float = key(NON_NEGATIVE, default=0.0)  # L2, added to the gradient


@section("optimizer")
class NesterovConfig:
    """Gradient descent with Nesterov's momentum (Sutskever et al. 2013, section 2)."""

    name: str = key(one_of("nesterov"), default="nesterov")
    learning_rate: float = key(POSITIVE, default=0.02)  # 0.001 to 0.1
    momentum: float = key(DECAY, default=0.9)
    weight_decay: float = key(NON_NEGATIVE, default=0.0)  # L2, added to the gradient


@section("optimizer")
class AdamConfig:
    """Adam (Kingma and Ba 2015, algorithm 1)."""

    name: str = key(one_of("adam"), default="adam")
    learning_rate: float = key(POSITIVE, default=0.001)  # 1e-4 to 3e-3
    b1: float = key(DECAY, default=0.9)  # decay of the mean of the gradient
    b2: float = key(DECAY, default=0.999)  # decay of the mean of its square
    eps: float = key(POSITIVE, default=1e-8)
    weight_decay: float = key(NON_NEGATIVE, default=0.0)  # L2, added to the gradient; for decoupled decay use adamw


@section("optimizer")
class AdamWConfig:
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019, algorithm 2)."""

    name: str = key(one_of("adamw"), default="adamw")
    learning_rate: float = key(POSITIVE, default=0.001)  # 1e-4 to 3e-3
    b1: float = key(DECAY, default=0.9)  # decay of the mean of the gradient
    b2: float = key(DECAY, default=0.999)  # decay of the mean of its square
    eps: float = key(POSITIVE, default=1e-8)
    weight_decay: float = key(NON_NEGATIVE, default=0.01)  # off the weights in each step, times learning_rate


@section("optimizer")
class RmsPropConfig:
    """RMSProp (Tieleman and Hinton 2012, lecture 6.5)."""

    name: str = key(one_of("rmsprop"), default="rmsprop")
    learning_rate: float = key(POSITIVE, default=0.001)  # 1e-4 to 1e-2
    decay: float = key(DECAY, default=0.9)  # decay of the mean of the squared gradient
    eps: float = key(POSITIVE, default=1e-8)
    momentum: float = key(DECAY, default=0.0)
    weight_decay: float = key(NON_NEGATIVE, default=0.0)  # L2, added to the gradient


@section("optimizer")
class ScaledConjugateGradientConfig:
    """Scaled conjugate gradient (Møller 1993), for full batches: trainer.batch_size=null."""

    name: str = key(one_of("scaled_conjugate_gradient"), default="scaled_conjugate_gradient")
    initial_damping: float = key(POSITIVE, default=1e-6)  # lambda of the first step; at most 1e-6
    curvature: str = key(one_of("exact", "difference"), default="exact")  # or Møller's one-sided difference
    difference_step: float = key(POSITIVE, default=1e-4)  # sigma of that difference; at most 1e-4


# ---- schedule: a factor between 0 and 1 on the learning rate ---------------------------------------------------------


@section("schedule")
class ConstantScheduleConfig:
    """The learning rate as it is, in every step."""

    name: str = key(one_of("constant"), default="constant")


@section("schedule")
class CosineScheduleConfig:
    """Half a cosine from the learning rate to its final fraction (Loshchilov, Hutter 2017), after a linear warm-up."""

    name: str = key(one_of("cosine"), default="cosine")
    warmup_epochs: float = key(NON_NEGATIVE, default=0.0)  # epochs of linear growth from 0
    final_fraction: float = key(FRACTION, default=0.0)  # of the learning rate, reached in the last step


@section("schedule")
class StepScheduleConfig:
    """Multiply the learning rate by a factor at each of some epochs, after a linear warm-up."""

    name: str = key(one_of("step"), default="step")
    epochs: tuple[int, ...] = key(COUNTS, default=(10, 15))  # the factor applies once that many epochs are done
    factor: float = key(FRACTION, default=0.1)
    warmup_epochs: float = key(NON_NEGATIVE, default=0.0)  # epochs of linear growth from 0


@section("schedule")
class ExponentialScheduleConfig:
    """Multiply the learning rate by a constant factor an epoch, smoothly."""

    name: str = key(one_of("exponential"), default="exponential")
    epoch_factor: float = key(FRACTION, default=0.95)
