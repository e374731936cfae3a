"""Explanations of what a network sees, against finite differences, values by hand, and loops in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx

import lenet_jax as lj
from lenet_jax.explain import grad_cam, occlusion, saliency


class Net(nn.Module):
    """A network of flax with a pooling after its last convolution, and one that is rematerialized before."""

    @nn.compact
    def __call__(self, images):
        x = nn.relu(nn.remat(nn.Conv)(4, (3, 3), padding="VALID")(images))
        x = nn.relu(nn.BatchNorm(use_running_average=True)(nn.Conv(5, (3, 3), padding="VALID")(x)))
        x = nn.max_pool(x, (2, 2), strides=(2, 2))
        return nn.Dense(3)(x.reshape(len(x), -1))


class Nnx(nnx.Module):
    def __init__(self, rngs):
        self.conv, self.out = nnx.Conv(2, 4, (3, 3), rngs=rngs), nnx.Linear(8 * 6 * 4, 3, rngs=rngs)

    def __call__(self, images):
        return self.out(nnx.relu(self.conv(images)).reshape(len(images), -1))


def layers():
    parts = {
        "conv": lj.layers.convolution(4, 3, lj.fan_in_uniform(), pool_size=2),
        "tanh": lj.layers.activation("tanh"),
        "flatten": lj.layers.flatten(),
        "out": lj.layers.dense(3, lj.fan_in_uniform()),
    }
    return lj.layers.make_model(lj.layers.serial(parts), (8, 6, 2))


MODELS = {
    "layers": layers,
    "linen": lambda: lj.interop.to_model(Net(), (8, 6, 2)),
    "nnx": lambda: lj.interop.to_model(Nnx, (8, 6, 2)),
}


@pytest.fixture(params=MODELS)
def network(request):
    model = MODELS[request.param]()
    image = np.random.default_rng(0).random((8, 6, 2), np.float32)
    return model, model.init(jax.random.key(3)), image


def logits(model, variables, images):
    return np.asarray(model.apply(variables, jnp.asarray(images))[0], np.float64)


def probabilities(model, variables, images):
    found = np.exp(logits(model, variables, images))
    return found / found.sum(axis=-1, keepdims=True)


def test_saliency_is_the_derivative_by_finite_differences(network):
    model, variables, image = network
    with jax.enable_x64(True):
        variables, image = jax.tree.map(lambda x: jnp.asarray(x, jnp.float64), variables), np.float64(image)
        found = saliency(model, variables, image, 1)
        assert found.shape == image.shape
        for place in [(0, 0, 0), (3, 2, 1), (5, 5, 0)]:
            step = np.zeros_like(image)
            step[place] = 1e-6
            above, below = (logits(model, variables, (image + sign * step)[None])[0, 1] for sign in (1, -1))
            np.testing.assert_allclose(found[place], (above - below) / 2e-6, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize(("size", "stride"), [(1, 1), (3, 1), (4, 3)])
def test_occlusion_is_the_drop_of_the_probability_of_each_covered_image(network, size, stride):
    model, variables, image = network
    expected = np.zeros((-(-8 // stride), -(-6 // stride)))
    for i, j in np.ndindex(expected.shape):
        covered = image.copy()
        top, left = i * stride - size // 2, j * stride - size // 2
        covered[max(top, 0) : top + size, max(left, 0) : left + size] = 0.25
        before, after = (probabilities(model, variables, each[None])[0, 2] for each in (image, covered))
        expected[i, j] = before - after
    found = occlusion(model, variables, image, 2, size=size, stride=stride, value=0.25)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_the_square_of_an_occlusion_is_two_ninths_of_the_shorter_side_as_50_of_224():
    model = layers()
    variables, image = model.init(jax.random.key(0)), jnp.ones((8, 6, 2))
    np.testing.assert_array_equal(
        occlusion(model, variables, image, 0), occlusion(model, variables, image, 0, size=1, value=0.5)
    )


def linear(activation=None):
    """Return a network whose maps are A_1 = x and A_2 = -2 x + 1, and whose score of class k is a weighted sum."""
    parts = {"conv": lj.layers.convolution(2, 1, lj.fan_in_uniform()), "flatten": lj.layers.flatten()}
    parts |= {"out": lj.layers.dense(2, lj.fan_in_uniform())}
    model = lj.layers.make_model(lj.layers.serial(parts), (2, 2, 1))
    variables = model.init(jax.random.key(0))
    weights = np.arange(16, dtype=np.float32).reshape(8, 2) - 4  # (pixel, map) by class
    conv = {"kernel": jnp.array([1.0, -2.0]).reshape(1, 1, 1, 2), "bias": jnp.array([0.0, 1.0])}
    return model, variables._replace(
        params={"conv": conv, "out": {"kernel": jnp.asarray(weights), "bias": jnp.zeros(2)}}
    )


def test_grad_cam_of_a_linear_network_is_what_it_is_by_hand():
    model, variables = linear()
    image = jnp.array([[1.0, 2.0], [0.0, -1.0]])[..., None]
    # of class 0 the weights of map 1 are -4, 0, 4, 8 with the mean 2, those of map 2 -2, 2, 6, 10 with the mean 4:
    # 2 x + 4 (1 - 2 x) = 4 - 6 x at each pixel, where it is positive
    np.testing.assert_allclose(grad_cam(model, variables, image, 0), [[0, 0], [4, 10]], atol=1e-5)
    np.testing.assert_array_equal(
        grad_cam(model, variables, image, 0), grad_cam(model, variables, image, 0, layer="conv")
    )


def test_grad_cam_of_a_flax_network_is_of_the_last_convolution_after_its_activation():
    model = MODELS["linen"]()
    variables = model.init(jax.random.key(1))
    image = np.random.default_rng(1).random((8, 6, 2), np.float32)
    params, state = variables.params, variables.state
    net = Net()
    tree = {"params": params.get("params", params), **state}
    _, found = net.apply(tree, image[None], capture_intermediates=True, mutable=["intermediates"])
    maps = nn.relu(found["intermediates"]["BatchNorm_0"]["__call__"][0])

    def rest(maps):
        pooled = nn.max_pool(maps, (2, 2), strides=(2, 2)).reshape(1, -1)
        dense = tree["params"]["Dense_0"]
        return pooled[0] @ dense["kernel"][:, 1] + dense["bias"][1]

    weights = np.asarray(jax.grad(rest)(maps))[0].mean(axis=(0, 1))
    expected = np.maximum((np.asarray(maps)[0] * weights).sum(axis=-1), 0)
    assert expected.shape == (4, 2)
    np.testing.assert_allclose(grad_cam(model, variables, image, 1), expected, atol=1e-6)


def test_grad_cam_of_layers_is_of_the_last_maps_or_of_those_that_are_named():
    model = layers()
    variables, image = model.init(jax.random.key(0)), np.random.default_rng(2).random((8, 6, 2), np.float32)
    maps = np.asarray(lj.activations(model, variables, image[None])["tanh"][0])
    weights = np.asarray(variables.params["out"]["kernel"])[:, 2].reshape(3, 2, 4).mean(axis=(0, 1))
    expected = np.maximum((maps * weights).sum(axis=-1), 0)
    np.testing.assert_allclose(grad_cam(model, variables, image, 2), expected, atol=1e-6)
    assert grad_cam(model, variables, image, 2, layer="conv").shape == (3, 2)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m, v, x: saliency(m, v, x, 3), "saliency: `label` must be a class, 0 to 2; got 3."),
        (lambda m, v, x: occlusion(m, v, x, 0, stride=0), "occlusion: `stride` must be a number of pixels, 1 or above"),
        (
            lambda m, v, x: grad_cam(m, v, x[0], 0),
            r"grad_cam: `image` must have 3 axes \(H, W, C\); got shape \(6, 2\)",
        ),
        (
            lambda m, v, x: grad_cam(m, v, x, 0, layer="conv.maps"),
            "`grad_cam: layer` has no 'conv.maps'; choose one of: conv, tanh.",
        ),
    ],
)
def test_what_is_no_class_image_or_layer_is_refused(call, message):
    model = layers()
    with pytest.raises(lj.InputError, match=message):
        call(model, model.init(jax.random.key(0)), jnp.zeros((8, 6, 2)))


def test_a_network_without_feature_maps_has_no_grad_cam():
    model = lj.interop.to_model(
        (lambda key: jnp.ones((4, 3)), lambda weights, x: x.reshape(len(x), -1) @ weights), (2, 2, 1)
    )
    with pytest.raises(lj.InputError, match="must have a convolution"):
        grad_cam(model, model.init(jax.random.key(0)), jnp.zeros((2, 2, 1)), 0)
    np.testing.assert_allclose(saliency(model, model.init(jax.random.key(0)), jnp.zeros((2, 2, 1)), 0), 1)
