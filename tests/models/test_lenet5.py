"""LeNet-5 against the formulas of the paper, in float64 NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lenet_jax as lj
from lenet_jax.models.lenet5 import C3_TABLE, _digit_codes, scaled_tanh
from tests.reference import convolve, pool


def by_the_paper(params, images):
    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)

    def s(x):
        return 1.7159 * np.tanh(2 / 3 * x)

    def conv(x, kernel, bias):
        return s(convolve(x, kernel, (1, 1), ((0, 0), (0, 0)), (1, 1), 1) + bias)

    def sub(x, own):
        sums = pool(x, (2, 2), (2, 2), ((0, 0), (0, 0)), np.sum)
        return s(sums / 4 * own["coefficient"] + own["bias"])

    x = 1.275 * np.pad(np.asarray(images, np.float64), [(0, 0), (2, 2), (2, 2), (0, 0)]) - 0.1
    x = sub(conv(x, **params["c1"]), params["s2"])
    kernel, pair = np.zeros((5, 5, 6, 16)), 0
    for output, inputs in enumerate(C3_TABLE):
        for channel in inputs:
            kernel[:, :, channel, output] = params["c3"]["kernel"][:, :, pair]
            pair += 1
    x = sub(conv(x, kernel, params["c3"]["bias"]), params["s4"])
    x = conv(x, **params["c5"])[:, 0, 0]
    x = s(x @ params["f6"]["kernel"] + params["f6"]["bias"])
    return np.stack([-((x - code) ** 2).sum(axis=1) for code in _digit_codes()], axis=1)


def test_logits_are_those_of_the_paper():
    model = lj.create_model("lenet5")
    variables = model.init(jax.random.key(0))
    params = jax.tree.map(lambda leaf: leaf + 0.05, variables.params)  # biases that are not 0
    images = jax.random.uniform(jax.random.key(1), (2, 28, 28, 1))
    logits, _ = model.apply(lj.Variables(params, {}), images)
    np.testing.assert_allclose(logits, 0.03 * by_the_paper(params, images), rtol=1e-4)


def test_the_table_of_connections_is_that_of_the_paper():
    """Table I: 60 pairs; six maps see three in a row, six see four in a row, three see four apart, one sees all."""
    assert [len(inputs) for inputs in C3_TABLE] == [3] * 6 + [4] * 9 + [6]
    assert [sum(channel in inputs for inputs in C3_TABLE) for channel in range(6)] == [10] * 6
    assert len(set(C3_TABLE)) == 16


def test_the_codes_are_bitmaps_of_7_by_12_pixels():
    codes = _digit_codes()
    assert codes.shape == (10, 84)
    assert set(np.unique(codes)) == {-1.0, 1.0}
    assert ["".join(".#"[int(pixel > 0)] for pixel in row) for row in codes[7].reshape(12, 7)] == [
        "#######", ".....##", ".....##", "....##.", "...##..", "...##..",
        "..##...", "..##...", "..##...", "..##...", ".......", ".......",
    ]  # fmt: skip
    distances = ((codes[:, None] - codes) ** 2).sum(axis=-1)
    assert distances[~np.eye(10, dtype=bool)].min() >= 4 * 10  # at least ten pixels differ


def test_the_squashing_function_is_1_at_1_and_steepest_at_0():
    assert float(scaled_tanh(jnp.float32(1))) == pytest.approx(1, abs=1e-4)
    assert float(scaled_tanh(jnp.float32(-1))) == pytest.approx(-1, abs=1e-4)
    assert float(jax.grad(scaled_tanh)(jnp.float32(0))) == pytest.approx(1.7159 * 2 / 3, rel=1e-6)


@pytest.mark.parametrize(("connections", "c3"), [("table", 1_516), ("full", 2_416), ("random", 1_616)])
def test_parameters_of_c3(connections, c3):
    model = lj.create_model("lenet5", connections=connections)
    assert next(row.parameters for row in lj.summarize(model) if row.layer == "c3") == c3


def test_weights_start_within_the_bound_of_their_fan_in():
    params = lj.create_model("lenet5").init(jax.random.key(0)).params
    kernel, pair = np.abs(np.asarray(params["c3"]["kernel"])), 0
    for inputs in C3_TABLE:
        bound = 2.4 / (25 * len(inputs))
        own = kernel[:, :, pair : pair + len(inputs)]
        assert 0.8 * bound < own.max() <= bound
        pair += len(inputs)


def test_random_connections_are_four_maps_each_and_follow_their_seed():
    kernels = [
        lj.create_model("lenet5", connections="random", connections_seed=seed).init(jax.random.key(0))
        for seed in (0, 0, 1)
    ]
    images = jax.random.uniform(jax.random.key(1), (1, 28, 28, 1))
    logits = [
        lj.create_model("lenet5", connections="random", connections_seed=seed).apply(variables, images)[0]
        for seed, variables in zip((0, 0, 1), kernels, strict=True)
    ]
    assert (logits[0] == logits[1]).all()
    assert (logits[0] != logits[2]).any()


def test_softmax_output():
    model = lj.create_model("lenet5", output="softmax", num_classes=12)
    logits, _ = model.apply(model.init(jax.random.key(0)), jnp.zeros((1, 28, 28, 1)))
    assert logits.shape == (1, 12)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"input_shape": (33, 28, 1)}, "lenet5: `input_shape` must be at most 32x32 pixels; got 33x28."),
        ({"num_classes": 11}, "lenet5: `num_classes` must be at most 10, the digits that have codes; got 11; "),
    ],
)
def test_refuses(options, message):
    with pytest.raises(lj.InputError) as error:
        lj.create_model("lenet5", **options)
    assert str(error.value).startswith(message)
