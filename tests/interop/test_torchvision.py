"""The same network here and in torchvision: logits, in training too, gradients, running statistics."""

import importlib.util

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

import lenet_jax as lj
from lenet_jax.interop.torchvision import load_torchvision, save_torchvision
from lenet_jax.weights import named_leaves

OPTIONS = {
    "alexnet": {"variant": "one_tower", "dropout": 0.0},
    "googlenet": {"variant": "torchvision", "dropout": 0.0},
    "resnet18": {},
    "resnet50": {},
}
SIZE = {"alexnet": 224}


def torchvision_models():
    if importlib.util.find_spec("torchvision") is None:
        pytest.skip("torchvision is not installed")
    from experiments.benchmarks.systems.torchvision_models import import_models

    return import_models()


@pytest.fixture(
    scope="module",
    params=[pytest.param(name, marks=[pytest.mark.slow] * (name != "resnet18")) for name in OPTIONS],
)
def pair(request, tmp_path_factory):
    """A network of random weights in torchvision, and ours with them."""
    torch = pytest.importorskip("torch")
    models = torchvision_models()
    name = request.param
    torch.manual_seed(0)
    options = {"init_weights": False, "transform_input": False} if name == "googlenet" else {}
    theirs = getattr(models, name)(weights=None, num_classes=7, **options)
    if name == "googlenet":
        theirs.aux_logits, theirs.aux1, theirs.aux2 = False, None, None
    for module in theirs.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        if isinstance(module, torch.nn.BatchNorm2d):  # otherwise all at 0 and 1
            torch.nn.init.normal_(module.bias, std=0.1)
            torch.nn.init.uniform_(module.weight, 0.3, 0.8)
            torch.nn.init.uniform_(module.running_var, 1.0, 2.0)
    path = tmp_path_factory.mktemp("weights") / "theirs.safetensors"
    safetensors.numpy.save_file({key: value.numpy() for key, value in theirs.state_dict().items()}, path)
    size = SIZE.get(name, 64)
    model = lj.create_model(name, input_shape=(size, size, 3), num_classes=7, **OPTIONS[name])
    return torch, theirs, model, load_torchvision(path, model, name), name, size


def draw(size):
    rng = np.random.default_rng(1)
    return rng.normal(size=(4, size, size, 3)).astype(np.float32), rng.integers(0, 7, 4)


def test_logits_are_those_of_torch(pair):
    torch, theirs, model, variables, _, size = pair
    images, _ = draw(size)
    with torch.no_grad():
        expected = theirs.eval()(torch.tensor(images).permute(0, 3, 1, 2)).numpy()
    np.testing.assert_allclose(model.apply(variables, images)[0], expected, atol=1e-4, rtol=1e-4)


def test_a_step_of_training_is_that_of_torch(pair, tmp_path):
    """In float64: in float32 both are off by 1 %, for which side of 0 a unit is on depends on the last bit."""
    torch, theirs, model, variables, name, size = pair
    images, labels = draw(size)

    before = {key: tensor.clone() for key, tensor in theirs.state_dict().items()}
    theirs.train().double().zero_grad()
    logits = theirs(torch.tensor(images).double().permute(0, 3, 1, 2))
    expected = torch.nn.functional.cross_entropy(logits, torch.tensor(labels))
    expected.backward()
    wanted = {key: parameter.grad.numpy() for key, parameter in theirs.named_parameters()}
    wanted |= {key: buffer.numpy() for key, buffer in theirs.named_buffers() if "num_batches" not in key}
    theirs.float().load_state_dict(before)

    def step(variables, images):
        def loss(params):
            labelled = jnp.asarray(labels, jnp.int32)
            logits, state = model.apply(variables._replace(params=params), images, train=True)
            return lj.cross_entropy(logits, labelled).mean(), state

        return jax.value_and_grad(loss, has_aux=True)(variables.params)

    with jax.enable_x64(True):
        doubles = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), variables)
        (value, state), grads = jax.jit(step)(doubles, images.astype(np.float64))
    save_torchvision(tmp_path / "ours.safetensors", variables._replace(params=grads, state=state), name)
    found = safetensors.numpy.load_file(tmp_path / "ours.safetensors")
    np.testing.assert_allclose(value, expected.item(), rtol=1e-9)
    assert found.keys() == wanted.keys()
    for key, array in wanted.items():
        assert np.linalg.norm(found[key] - array) < 1e-9 * max(np.linalg.norm(array), 1e-3), key


def test_what_is_saved_is_loaded_by_torch_and_here(pair, tmp_path):
    torch, theirs, model, variables, name, _ = pair
    save_torchvision(tmp_path / "ours.safetensors", variables, name)
    tensors = safetensors.numpy.load_file(tmp_path / "ours.safetensors")
    theirs.load_state_dict({key: torch.tensor(tensor) for key, tensor in tensors.items()}, strict=True)
    again = named_leaves(load_torchvision(tmp_path / "ours.safetensors", model, name))
    assert all(np.array_equal(again[key], leaf) for key, leaf in named_leaves(variables).items())


def test_other_weights_are_refused(tmp_path):
    path = tmp_path / "weights.safetensors"
    model = lj.create_model("resnet18", width=0.125, input_shape=(32, 32, 3))
    variables = model.init(jax.random.key(0))
    save_torchvision(path, variables, "resnet18")
    deeper = lj.create_model("resnet34", width=0.125, input_shape=(32, 32, 3))
    with pytest.raises(lj.InputError, match=r"it lacks 'layer1.2.bn1.bias'; build the model with the options"):
        load_torchvision(path, deeper, "resnet34")
    with pytest.raises(lj.InputError, match=r"`name` has no 'vgg'; choose one of: "):
        save_torchvision(path, variables, "vgg")
    with pytest.raises(lj.InputError, match="choose the variant that it has"):
        save_torchvision(
            path, lj.create_model("alexnet", image_size=227, width=0.01).init(jax.random.key(0)), "resnet18"
        )
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(lj.InputError, match="`path` must be an intact safetensors file"):
        load_torchvision(path, model, "resnet18")
