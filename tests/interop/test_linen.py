"""Linen modules as people have them: what they sow, their streams, their modes, their metadata, their types."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import lenet_jax as lj
from lenet_jax.config import TrainerConfig
from lenet_jax.interop import from_linen
from lenet_jax.types import Dataset, Split

nn = pytest.importorskip("flax.linen")

SHAPE = (6,)
KEY = jax.random.key(0)
X = jax.random.normal(jax.random.key(1), (4, *SHAPE))


def data(inputs=None, targets=None):
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(24, *SHAPE)).astype(np.float32) if inputs is None else inputs
    targets = rng.integers(0, 3, 24).astype(np.int32) if targets is None else targets
    split = Split(inputs, targets)
    return Dataset(split, split, split, num_classes=3)


def train(model, dataset, **options):
    config = TrainerConfig(batch_size=8, max_epochs=2, **options.pop("trainer", {}))
    return jax.jit(lj.make_train(model, optax.sgd(0.1), config, **options))(KEY, {}, dataset)


class Sowing(nn.Module):
    """It sows in three ways, and counts its calls in a variable of its own."""

    @nn.compact
    def __call__(self, x, train=False):
        x = nn.relu(nn.Dense(5)(x))
        self.sow("losses", "l2", jnp.mean(x**2))
        self.sow("intermediates", "hidden", x)
        calls = self.variable("calls", "count", lambda: 0)
        if train:
            calls.value = calls.value + 1
        return nn.Dense(3)(x)


def test_what_a_module_sows_is_dropped_and_its_variables_are_carried():
    with pytest.warns(
        UserWarning, match=r"from_linen: 'losses' of Sowing is dropped, .* `sow` does; .* return it as an output"
    ):
        model = from_linen(Sowing(), SHAPE)
    assert list(model.init(KEY).state) == ["calls"]
    result = train(model, data())
    assert np.isfinite(result.validation.loss)
    variables = model.init(KEY)
    for calls in (1, 2):
        variables = variables._replace(state=model.apply(variables, X, train=True)[1])
        assert int(variables.state["calls"]["count"]) == calls


def mode_module(name, *, in_kwargs):
    value = {"deterministic": False, "use_running_average": False}.get(name, True)

    class Net(nn.Module):
        @nn.compact
        def __call__(self, x, **options):
            trains = options.get(name, not value) == value
            return nn.Dense(3)(nn.Dropout(0.5)(x, deterministic=not trains))

    class Named(Net):
        __call__ = nn.compact(eval(f"lambda self, x, {name}={not value}: self.net(x, {name}={name})"))

        def setup(self):
            self.net = Net()

    class Strict(nn.Module):
        """It hands its keywords on to a layer that takes one of them only."""

        @nn.compact
        def __call__(self, x, **options):
            return nn.Dense(3)(nn.Dropout(0.5)(x, **options))

    return Net() if in_kwargs else (Strict() if name == "strict" else Named())


@pytest.mark.parametrize("in_kwargs", [True, False])
@pytest.mark.parametrize("name", ["train", "training", "is_training", "deterministic", "use_running_average"])
def test_the_mode_is_told_by_each_usual_name(name, in_kwargs):
    assert draws_in_training_only(from_linen(mode_module(name, in_kwargs=in_kwargs), SHAPE))


def test_a_keyword_that_a_call_refuses_is_not_passed():
    assert draws_in_training_only(from_linen(mode_module("strict", in_kwargs=False), SHAPE))


def draws_in_training_only(model):
    variables = model.init(KEY)
    one, other = (model.apply(variables, X, train=True, key=jax.random.key(n))[0] for n in (1, 2))
    first, second = (model.apply(variables, X, key=jax.random.key(n))[0] for n in (1, 2))
    return not np.array_equal(one, other) and np.array_equal(first, second)


def test_layers_one_after_another_are_a_module_too():
    model = from_linen(nn.Sequential([nn.Dense(5), nn.relu, nn.Dense(3)]), SHAPE)
    assert model.apply(model.init(KEY), X)[0].shape == (4, 3)


class Noise(nn.Module):
    always: bool = False

    @nn.compact
    def __call__(self, x, train=False):
        if train or self.always:
            x = x + jax.random.normal(self.make_rng("noise"), x.shape)
            x = x + jax.random.uniform(self.make_rng("shift"), x.shape)
        return nn.Dense(3)(nn.Dropout(0.5, deterministic=not train)(x))


def test_each_stream_that_a_module_asks_for_has_a_key():
    model = from_linen(Noise(), SHAPE)
    assert draws_in_training_only(model)
    assert np.isfinite(train(model, data()).validation.loss)


def test_noise_at_inference_is_the_same_at_each_call_unless_a_key_is_given():
    model = from_linen(Noise(always=True), SHAPE)
    variables = model.init(KEY)
    first, second = (model.apply(variables, X)[0] for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert not np.array_equal(model.apply(variables, X, key=jax.random.key(1))[0], first)


def test_dropout_that_no_mode_turns_off_is_refused():
    class Always(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.Dense(3)(nn.Dropout(0.5, deterministic=False)(x))

    with pytest.raises(lj.InputError, match="must not apply dropout at inference; Always does"):
        from_linen(Always(), SHAPE)


class Normalized(nn.Module):
    dtype: object = None

    @nn.compact
    def __call__(self, x, train=False):
        x = nn.Dense(5, dtype=self.dtype)(x)
        x = nn.BatchNorm(use_running_average=not train, momentum=0.9, dtype=self.dtype)(x)
        return nn.Dense(3, dtype=self.dtype)(x)


@pytest.mark.parametrize("options", [{"compute_dtype": "bfloat16"}, {}])
def test_batch_statistics_stay_in_float32_where_a_module_computes_in_bfloat16(options):
    module = Normalized() if options else Normalized(jnp.bfloat16)
    with jax.numpy_dtype_promotion("standard"):  # which flax relies on
        result = train(from_linen(module, SHAPE), data(), trainer=options)
    statistics = result.variables.state["batch_stats"]
    assert {x.dtype for x in jax.tree.leaves(statistics)} == {jnp.dtype("float32")}
    assert not np.array_equal(statistics["BatchNorm_0"]["mean"], np.zeros(5))


class TwoTasks(nn.Module):
    @nn.compact
    def __call__(self, x):
        hidden = nn.relu(nn.Dense(5)(x))
        return {"class": nn.Dense(3)(hidden), "size": nn.Dense(1)(hidden)[:, 0]}


def test_outputs_are_any_pytree_for_an_objective_of_the_users_own():
    def loss(outputs, targets):
        return lj.cross_entropy(outputs["class"], targets["class"]) + (outputs["size"] - targets["size"]) ** 2

    targets = {"class": np.arange(24, dtype=np.int32) % 3, "size": np.ones(24, np.float32)}
    objective = lj.Objective(loss, {}, monitor="loss", mode="min")
    assert np.isfinite(train(from_linen(TwoTasks(), SHAPE), data(targets=targets), objective=objective).test.loss)


class Tokens(nn.Module):
    @nn.compact
    def __call__(self, inputs):
        return nn.Dense(3)(nn.Embed(7, 4)(inputs["words"]).mean(axis=1) + inputs["scale"])


def test_inputs_that_are_no_float32_array_are_described_by_shapes_and_types():
    example = {"words": jax.ShapeDtypeStruct((5,), jnp.int32), "scale": jax.ShapeDtypeStruct((1,), jnp.float32)}
    inputs = {"words": np.arange(120, dtype=np.int32).reshape(24, 5) % 7, "scale": np.ones((24, 1), np.float32)}
    model = from_linen(Tokens(), example)
    assert model.input_shape is None
    assert np.isfinite(train(model, data(inputs)).test.loss)


def test_metadata_of_partitioning_is_removed():
    class Boxed(nn.Module):
        @nn.compact
        def __call__(self, x, train=False):
            x = nn.Dense(3, kernel_init=nn.with_partitioning(nn.initializers.lecun_normal(), ("in", "out")))(x)
            return nn.BatchNorm(use_running_average=not train)(x)

    model = from_linen(Boxed(), SHAPE)
    assert type(model.init(KEY).params["Dense_0"]["kernel"]) is not nn.Partitioned
    expected = X @ model.init(KEY).params["Dense_0"]["kernel"]
    np.testing.assert_allclose(model.apply(model.init(KEY), X)[0], expected / np.sqrt(1 + 1e-5), rtol=1e-5)
    assert np.isfinite(train(model, data()).test.loss)
