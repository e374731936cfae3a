"""Any Optax transformation in the trainer does what it does in a plain loop with Optax."""

import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib as oc
import pytest

import lenet_jax as lj
from lenet_jax.training import evaluation_variables, init_train_state, train_step


@pytest.fixture(autouse=True)
def standard_promotion():
    """Several of Optax's transformations promote dtypes and ranks."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


RNG = np.random.default_rng(0)
INPUTS = RNG.normal(size=(12, 6)).astype(np.float32)
LABELS = RNG.integers(0, 3, 12).astype(np.int32)
DATA = lj.Dataset(*[lj.Split(INPUTS, LABELS)] * 3, num_classes=3)
STEPS = 5


def init(key):
    params = {"kernel": 0.3 * jax.random.normal(key, (6, 3)), "bias": jnp.zeros(3)}
    return lj.Variables(params, {})


def apply(variables, inputs, *, train=False, key=None):
    return inputs @ variables.params["kernel"] + variables.params["bias"], variables.state


def loss_fn(params, indices):
    logits = apply(lj.Variables(params, {}), jnp.asarray(INPUTS)[indices])[0]
    return optax.softmax_cross_entropy_with_integer_labels(logits, jnp.asarray(LABELS)[indices]).mean()


MODEL = lj.Model(init, apply)
BATCHES = np.random.default_rng(1).integers(0, 12, (STEPS, 4))
SCHEDULE = optax.warmup_cosine_decay_schedule(0.0, 0.1, 2, 5)

RATE_ONLY = [
    *("adabelief", "adadelta", "adafactor", "adagrad", "adam", "adamax", "adamaxw", "adamw", "adan", "amsgrad"),
    *("fromage", "lamb", "lars", "lion", "nadam", "nadamw", "novograd", "optimistic_gradient_descent", "radam"),
    *("rmsprop", "rprop", "sgd", "sign_sgd", "sm3", "yogi", "noisy_sgd", "optimistic_adam_v2", "signum"),
]
CONTRIB = ["acprop", "ademamix", "adopt", "cocob", "dadapt_adamw", "madgrad", "momo", "momo_adam", "muon", "prodigy"]
OTHERS = {
    "adam with a schedule": lambda: optax.adam(SCHEDULE),
    "momentum": lambda: optax.sgd(0.1, momentum=0.9, nesterov=True),
    "polyak_sgd": lambda: optax.polyak_sgd(),
    "lbfgs": lambda: optax.lbfgs(),
    "backtracking": lambda: optax.chain(optax.adam(1e-1), optax.scale_by_backtracking_linesearch(10)),
    "zoom": lambda: optax.chain(optax.sgd(1.0), optax.scale_by_zoom_linesearch(10)),
    "clipped": lambda: optax.chain(optax.clip_by_global_norm(0.1), optax.adaptive_grad_clip(0.1), optax.sgd(0.1)),
    "ema of updates": lambda: optax.chain(optax.sgd(0.1), optax.ema(0.9)),
    "apply_every": lambda: optax.chain(optax.sgd(0.1), optax.apply_every(2)),
    "apply_if_finite": lambda: optax.apply_if_finite(optax.adam(0.1), 3),
    "inject_hyperparams": lambda: optax.inject_hyperparams(optax.adam)(learning_rate=SCHEDULE),
    "masked": lambda: optax.masked(optax.adam(0.1), {"kernel": True, "bias": False}),
    "multi_transform": lambda: optax.multi_transform(
        {"a": optax.adam(0.1), "b": optax.set_to_zero()}, {"kernel": "a", "bias": "b"}
    ),
    "reduce_on_plateau": lambda: optax.chain(optax.sgd(0.1), oc.reduce_on_plateau(patience=1)),
    "dog": lambda: oc.dog(1.0),
    "dowg": lambda: oc.dowg(1.0),
    "mechanize": lambda: oc.mechanize(optax.sgd(0.1)),
    "sophia": lambda: oc.sophia(0.1),
    "simplified_ademamix": lambda: oc.simplified_ademamix(0.01),
    "galore": lambda: oc.galore(0.1, rank=2),
    "lookahead": lambda: optax.lookahead(optax.sgd(0.1), 2, 0.5),
    "MultiSteps": lambda: optax.MultiSteps(optax.adam(0.1), 2),
    "sam": lambda: oc.sam(optax.sgd(0.1), optax.chain(oc.normalize(), optax.sgd(0.05))),
    "sam, opaque": lambda: oc.sam(optax.sgd(0.1), optax.chain(oc.normalize(), optax.sgd(0.05)), opaque_mode=True),
    "schedule_free_sgd": lambda: oc.schedule_free_sgd(0.5, warmup_steps=2),
    "schedule_free_adamw": lambda: oc.schedule_free_adamw(0.1, warmup_steps=2),
    "nonnegative": lambda: optax.chain(optax.sgd(0.1), optax.keep_params_nonnegative()),
    "trust ratio": lambda: optax.chain(optax.scale_by_adam(), optax.scale_by_trust_ratio(), optax.scale(-0.1)),
    "centralized": lambda: optax.chain(optax.centralize(), optax.sgd(0.1)),
    "zero_nans": lambda: optax.chain(optax.zero_nans(), optax.sgd(0.1)),
    "add_noise": lambda: optax.chain(optax.add_noise(0.01, 0.55, 0), optax.sgd(0.1)),
    "normalized by update norm": lambda: optax.chain(optax.normalize_by_update_norm(), optax.sgd(0.1)),
}
CASES = {
    **{name: functools.partial(getattr(optax, name), 0.05) for name in RATE_ONLY if hasattr(optax, name)},
    **{name: functools.partial(getattr(oc, name), 0.05) for name in CONTRIB},
    **OTHERS,
}
EXTRA = {  # extra arguments that a user of Optax would give by hand
    "polyak_sgd": ("value",),
    "lbfgs": ("value", "grad", "value_fn"),
    "backtracking": ("value", "grad", "value_fn"),
    "zoom": ("value", "grad", "value_fn"),
    "reduce_on_plateau": ("value",),
    "momo": ("value",),
    "momo_adam": ("value",),
    "sophia": ("obj_fn",),
    "sam, opaque": ("grad_fn",),
}


def plain_loop(optimizer, params, name):
    """Train as the documentation of Optax does, and return the parameters to measure with."""
    is_pair = name == "lookahead"
    if is_pair:
        params = optax.LookaheadParams.init_synced(params)
    state = optimizer.init(params)
    for indices in BATCHES:
        now = params.fast if is_pair else params
        value_fn = functools.partial(loss_fn, indices=indices)
        value, grads = jax.value_and_grad(value_fn)(now)
        known = {
            "value": value, "grad": grads, "value_fn": value_fn, "obj_fn": value_fn,
            "grad_fn": lambda p, i, value_fn=value_fn: jax.grad(value_fn)(p),
        }  # fmt: skip
        extra = {key: known[key] for key in EXTRA.get(name, ())}
        updates, state = optimizer.update(grads, state, params, **extra)
        params = optax.apply_updates(params, updates)
    if is_pair:
        return params.slow
    if name.startswith("schedule_free"):
        return oc.schedule_free_eval_params(state, params)
    if name == "sam":
        return state.cache  # STEPS is odd: the parameters are at the perturbed point
    return params


QUICK = {"adam", "adafactor", "lion", "prodigy", "momo", *EXTRA, *OTHERS} - {"zoom", "momo_adam", "galore", "mechanize"}
# The others are as these are.


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in CASES]
)
def test_the_trainer_does_what_a_plain_loop_does(name):
    optimizer = CASES[name]()
    state = init_train_state(MODEL, optimizer, lj.config.TrainerConfig(), jax.random.key(0), {})
    expected = plain_loop(optimizer, state.variables.params, name)

    @jax.jit
    def steps(state):
        return jax.lax.scan(lambda state, batch: train_step(MODEL, optimizer, state, DATA, batch), state, BATCHES)

    state, losses = steps(state)
    assert int(state.status) == lj.Status.RUNNING
    assert np.isfinite(losses).all()
    found = evaluation_variables(state).params
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=2e-4, atol=2e-6), found, expected)


@pytest.mark.filterwarnings("ignore")
def test_every_optimizer_of_optax_is_compared():
    public = [(module, name) for module in (optax, oc) for name in dir(module)]
    names = {name for module, name in public if _first_parameter(module, name) == "learning_rate"}
    optimizers = {name for name in names if name.islower() and not name.startswith(("scale_by", "_"))}
    left_out = {"optimistic_adam", "dpsgd"}  # an older name of another; a gradient of each example
    assert optimizers - {name.partition(" ")[0] for name in CASES} == left_out & optimizers


def _first_parameter(module, name):
    try:
        return next(iter(inspect.signature(getattr(module, name)).parameters), None)
    except (TypeError, ValueError):
        return None
