"""The large architectures: parameters, multiply-adds and maps of their papers, and what every model must do."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import lenet_jax as lj
from lenet_jax.config import TrainerConfig
from lenet_jax.models.resnet import _BLOCKS, _block
from lenet_jax.objective import Batch, Task, training_loss
from lenet_jax.objectives import classification
from lenet_jax.summary import training_bytes
from lenet_jax.types import Dataset, Split

# Parameters, and multiply-adds in millions; of torchvision's documentation where the paper has none of that variant.
PUBLISHED = {
    ("alexnet", "two_groups"): (60_965_224, 724),
    ("alexnet", "ungrouped"): (62_378_344, 1_135),
    ("alexnet", "one_tower"): (61_100_840, 714),
    ("zfnet", None): (62_357_608, None),
    ("googlenet", "paper"): (6_998_552, 1_580),
    ("googlenet", "torchvision"): (6_624_904, 1_500),
    ("resnet18", None): (11_689_512, 1_814),
    ("resnet34", None): (21_797_672, 3_664),
    ("resnet50", None): (25_557_032, 4_100),
    ("resnet101", None): (44_549_160, 7_800),
    ("resnet152", None): (60_192_808, 11_500),
}


@functools.cache
def summary(name, variant=None, size=224, **options):
    options = options if variant is None else {**options, "variant": variant}
    return lj.summarize(lj.create_model(name, input_shape=(size, size, 3), num_classes=1000, **options))


@pytest.mark.parametrize(("name", "variant"), PUBLISHED)
def test_parameters_and_work_are_the_published_ones(name, variant):
    parameters, millions = PUBLISHED[name, variant]
    size = 227 if name == "alexnet" and variant != "one_tower" else 224
    rows = summary(name, variant, size)
    assert sum(row.parameters for row in rows) == parameters
    if millions is not None:
        assert sum(row.multiply_adds for row in rows) == pytest.approx(1e6 * millions, rel=0.02)


def test_the_resnet_for_small_images_is_that_of_the_published_programs():
    """11,173,962 parameters and 0.56e9 multiply-adds, as of the usual PyTorch programs for CIFAR-10."""
    model = lj.create_model("resnet18", input_shape=(32, 32, 3), num_classes=10, stem="cifar")
    rows = lj.summarize(model)
    assert sum(row.parameters for row in rows) == 11_173_962
    assert sum(row.multiply_adds for row in rows) == pytest.approx(556e6, rel=0.01)
    shapes = {row.layer: row.output_shape for row in rows}
    assert shapes["conv1"] == (32, 32, 64)
    assert "pool1" not in shapes


def test_a_resnet_may_see_the_middle_of_the_images_alone():
    options = {"width": 0.05, "num_classes": 3}
    whole, cropped = (
        lj.create_model("resnet18", input_shape=shape, **options, **crop)
        for shape, crop in (((32, 32, 1), {}), ((39, 40, 1), {"crop_size": 32}))
    )
    variables = whole.init(jax.random.key(0))
    images = jax.random.uniform(jax.random.key(1), (2, 39, 40, 1))
    expected, _ = whole.apply(variables, images[:, 3:35, 4:36])
    params = {**cropped.init(jax.random.key(0)).params, **variables.params}
    found, _ = cropped.apply(lj.Variables(params, variables.state), images)
    np.testing.assert_array_equal(found, expected)


ALEXNET = {
    "conv1.conv": (55, 55, 96), "pool1": (27, 27, 96), "conv2.conv": (27, 27, 256), "pool2": (13, 13, 256),
    "conv3.conv": (13, 13, 384), "conv4.conv": (13, 13, 384), "conv5.conv": (13, 13, 256), "pool5": (6, 6, 256),
}  # fmt: skip
ZFNET = {
    "conv1.conv": (110, 110, 96), "pool1": (55, 55, 96), "conv2.conv": (26, 26, 256), "pool2": (13, 13, 256),
    "conv3.conv": (13, 13, 384), "conv4.conv": (13, 13, 384), "conv5.conv": (13, 13, 256), "pool5": (6, 6, 256),
}  # fmt: skip
DENSE = {"fc6": (4096,), "fc7": (4096,), "fc8": (1000,)}
GOOGLENET = {
    "conv1.conv": (112, 112, 64), "pool1": (56, 56, 64), "conv2.conv": (56, 56, 192), "pool2": (28, 28, 192),
    "inception3a.concatenate": (28, 28, 256), "inception3b.concatenate": (28, 28, 480), "pool3": (14, 14, 480),
    "inception4a.concatenate": (14, 14, 512), "inception4b.concatenate": (14, 14, 512),
    "inception4c.concatenate": (14, 14, 512), "inception4d.concatenate": (14, 14, 528),
    "inception4e.concatenate": (14, 14, 832), "pool4": (7, 7, 832),
    "inception5a.concatenate": (7, 7, 832), "inception5b.concatenate": (7, 7, 1024), "mean": (1024,), "fc": (1000,),
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "size", "maps"),
    [
        ("alexnet", 227, {**ALEXNET, **DENSE}),
        ("zfnet", 224, {**ZFNET, **DENSE}),
        ("googlenet", 224, GOOGLENET),
    ],
)
def test_the_maps_of_each_stage_are_those_of_the_paper(name, size, maps):
    found = {row.layer: row.output_shape for row in summary(name, size=size)}
    assert {stage: found[stage] for stage in maps} == maps


@pytest.mark.parametrize("depth", [pytest.param(n, marks=[pytest.mark.slow] * (n in (34, 101))) for n in _BLOCKS])
def test_the_maps_of_a_resnet_are_those_of_table_1(depth):
    rows = {row.layer: row for row in summary(f"resnet{depth}")}
    wide = 1 if depth < 50 else 4
    stages = zip(_BLOCKS[depth], (56, 28, 14, 7), (64, 128, 256, 512), strict=True)
    maps = {f"conv{n}.{blocks - 1}.add": (size, size, wide * c) for n, (blocks, size, c) in enumerate(stages, 2)}
    maps |= {"conv1": (112, 112, 64), "pool1": (56, 56, 64), "fc": (1000,)}
    assert {stage: rows[stage].output_shape for stage in maps} == maps
    layers = [layer for layer in rows if ".block.conv" in layer]
    assert len(layers) + 2 == depth  # with conv1 and fc


def test_the_resnets_are_one_function_by_depth():
    assert summary("resnet18", depth=34) == summary("resnet34")


@pytest.mark.parametrize(("bottleneck", "num_maps"), [(False, 8), (True, 2)])
def test_blocks_of_a_resnet_start_as_the_identity_on_request(bottleneck, num_maps):
    x = jax.nn.relu(jax.random.normal(jax.random.key(1), (2, 6, 6, 8)))  # as behind the block before

    def starts_as(zero, strides=1):
        block = _block(8, num_maps, strides, bottleneck=bottleneck, zero=zero)
        variables, _ = block.init(jax.random.key(0), (6, 6, 8))
        return np.asarray(block.apply(variables, x, train=True, key=None)[0])

    np.testing.assert_array_equal(starts_as(True), x)
    assert np.abs(starts_as(False) - x).mean() > 0.1  # as published: what is added has variance 1
    assert starts_as(True, strides=2).shape == (2, 3, 3, 8)  # a projection is no identity


def test_the_inputs_of_googlenet_begin_with_what_its_table_says():
    sees = {row.layer: row.receptive_field[0] for row in summary("googlenet")}
    assert (sees["conv1.conv"], sees["pool1"], sees["inception3a.concatenate"]) == (7, 11, 59)


def test_recomputing_takes_the_memory_of_one_block_at_a_time():
    rows, again = (summary("resnet50", rematerialize=flag) for flag in (False, True))
    assert [row[:4] for row in again] == [row[:4] for row in rows]
    assert training_bytes(again) < training_bytes(rows) / 2


SMALL = {
    "alexnet": {"width": 1 / 32, "image_size": 67, "dropout": 0.0},
    "zfnet": {"width": 1 / 32, "image_size": 64, "dropout": 0.0},
    "googlenet": {"width": 1 / 16, "dropout": 0.0},
    "resnet18": {"width": 1 / 16},
    "resnet50": {"width": 1 / 32},
}


def digits(count, size=28, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 10, count).astype(np.int32)
    images = rng.integers(0, 100, (count, size, size, 1))
    images[np.arange(count), 2 * labels + 3] += 150  # a bright row tells the label
    return Split(images.astype(np.uint8), labels)


def losses_of(model, variables, images, labels, key):
    """Return the loss of each example in training, and the new state."""
    keys = jax.random.split(key, len(images))
    return training_loss(Task(model, classification()), variables, Batch(images, labels, keys))


def gradient_of(model):
    def loss(params, state, images, labels, key):
        each, state = losses_of(model, lj.Variables(params, state), images, labels, key)
        return jnp.mean(each), state

    return jax.value_and_grad(loss, has_aux=True)


def slow_for(*names):
    return [pytest.param(name, marks=[pytest.mark.slow] if name in names else []) for name in SMALL]


@pytest.mark.parametrize("name", slow_for("googlenet", "resnet18", "resnet50", "zfnet"))
def test_recomputing_changes_nothing_and_a_map_is_each_alone(name):
    """In float64: in float32 which side of 0 a unit is on depends on the last bit, and a map adds in another order."""
    split = digits(4)
    kept, again = (lj.create_model(name, rematerialize=flag, **SMALL[name]) for flag in (False, True))
    with jax.enable_x64(True):
        pair = jax.vmap(kept.init)(jax.random.split(jax.random.key(0)))
        pair = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), pair)
        first = jax.tree.map(lambda leaf: leaf[0], pair)
        arguments = (split.images / 256, jnp.asarray(split.labels), jax.random.key(2))
        alone = jax.jit(gradient_of(kept))(*first, *arguments)
        recomputed = jax.jit(gradient_of(again))(*first, *arguments)
        mapped = jax.jit(jax.vmap(gradient_of(kept), (0, 0, None, None, None)))(*pair, *arguments)
    for others in (recomputed, jax.tree.map(lambda leaf: leaf[0], mapped)):
        for a, b in zip(*map(jax.tree.leaves, (others, alone)), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-7, atol=1e-9 * (1 + np.max(np.abs(b))))


@pytest.mark.parametrize("name", slow_for("alexnet", "googlenet", "resnet50", "zfnet"))
def test_a_small_one_learns_in_lanes_as_it_does_alone(name):
    split = digits(32)
    data, config = Dataset(split, split, split), TrainerConfig(batch_size=8, max_epochs=4)
    objective = classification(label_smoothing=0.1)
    optimizer = lj.make_optimizer("momentum", weight_decay=1e-4)
    model = lj.create_model(name, **SMALL[name])
    keys, rates = jax.random.split(jax.random.key(0)), {"learning_rate": jnp.asarray([0.02, 0.01])}
    lanes = lj.lanes.make_train_lanes(model, optimizer, config, objective=objective)(keys, rates, data)
    losses = np.asarray(lanes.history.train_loss)
    assert np.all(losses[:, -1] < losses[:, 0])
    one = jax.tree.map(lambda leaf: leaf[1], rates)
    alone = jax.jit(lj.make_train(model, optimizer, config, objective=objective))(keys[1], one, data)
    jax.tree.map(lambda lane, run: np.testing.assert_array_equal(lane[1], run), lanes.variables, alone.variables)


@pytest.mark.parametrize("name", [pytest.param("googlenet", marks=pytest.mark.slow), "resnet18"])
def test_what_it_says_of_an_image_does_not_depend_on_the_others(name):
    options = {**SMALL[name], **({"variant": "torchvision"} if name == "googlenet" else {})}
    model = lj.create_model(name, image_size=32, **options)
    variables = model.init(jax.random.key(0))
    images = digits(6).images / np.float32(256)
    _, state = model.apply(variables, images, train=True, key=jax.random.key(1))
    trained = variables._replace(state=state)
    together = model.apply(trained, images)[0]
    alone = jnp.concatenate([model.apply(trained, images[n : n + 1])[0] for n in range(6)])
    turned = model.apply(trained, images[::-1])[0][::-1]
    np.testing.assert_allclose(alone, together, atol=1e-5)
    np.testing.assert_allclose(turned, together, atol=1e-5)


@pytest.mark.slow
def test_auxiliary_heads_count_in_training_only():
    options = {"input_shape": (80, 80, 1), "width": 1 / 16, "dropout": 0.0}
    plain, helped = (lj.create_model("googlenet", auxiliary_heads=flag, **options) for flag in (False, True))
    variables = helped.init(jax.random.key(0))
    bare = {name: part for name, part in variables.params.items() if not name.startswith("auxiliary")}
    assert len(bare) == len(variables.params) - 2
    split = digits(4, 80)
    images, labels = jnp.asarray(split.images / np.float32(256)), jnp.asarray(split.labels)
    expected = plain.apply(variables._replace(params=bare), images)[0]
    np.testing.assert_array_equal(helped.apply(variables, images)[0], expected)

    def losses(model, params):
        return losses_of(model, variables._replace(params=params), images, labels, jax.random.key(2))

    main, state = losses(plain, bare)
    more, helped_state = losses(helped, variables.params)
    assert state == helped_state == {}
    assert jnp.all(more > main)
    grads = jax.grad(lambda params: losses(helped, params)[0].sum())(variables.params)
    assert float(optax.tree.norm(grads["auxiliary1"])) > 0


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("alexnet", {"input_shape": (28, 28, 1)}, "layer `pool2` does not fit an input of shape (2, 2, 256): max"),
        ("resnet18", {"input_shape": (28, 28, 0)}, "model: `input_shape` must be (height, width, channels), each 1 or"),
        ("resnet18", {"input_shape": (9, 9, 1), "crop_size": 10}, "layer `crop` does not fit an input of shape (9, "),
        ("resnet18", {"depth": 20}, "`model.depth` must be one of 18, 34, 50, 101, 152; got 20."),
        ("googlenet", {"variant": "torchvision", "auxiliary_heads": True}, "googlenet: `auxiliary_heads` must be"),
        ("googlenet", {"auxiliary_heads": True}, "layer `auxiliary1` does not fit an input of shape (2, 2, 512): "),
    ],
)  # fmt: skip
def test_bad_input_is_refused(name, options, message):
    with pytest.raises(lj.InputError) as error:
        lj.create_model(name, **options)
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)
