"""Weights as files: what was saved is loaded, and nothing else is."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lenet_jax as lj


@pytest.mark.parametrize("name", ["lenet", "lenet5", "window_classifier", "resnet18"])
def test_what_is_saved_is_loaded(name, tmp_path):
    model = lj.create_model(name)
    variables = model.init(jax.random.key(3))
    lj.save_variables(tmp_path / "new" / "a.safetensors", variables)
    loaded = lj.load_variables(tmp_path / "new" / "a.safetensors", model)
    assert jax.tree.structure(loaded) == jax.tree.structure(variables)
    jax.tree.map(np.testing.assert_array_equal, loaded, variables)


def test_a_random_key_in_the_state_is_saved_as_its_integers_and_is_a_key_again(tmp_path):
    def init(key):
        return lj.Variables({"w": jnp.ones(2)}, {"key": key, "keys": jax.random.split(key, 3)})

    model = lj.Model(init, lambda variables, x, *, train=False, key=None: (x, variables.state))
    variables = model.init(jax.random.key(7))
    lj.save_variables(tmp_path / "a", variables)
    loaded = lj.load_variables(tmp_path / "a", model)
    for name, shape in (("key", ()), ("keys", (3,))):
        assert loaded.state[name].shape == shape
        np.testing.assert_array_equal(*(jax.random.bits(each.state["keys"][0]) for each in (loaded, variables)))
        assert jnp.all(loaded.state[name] == variables.state[name])


def test_tensors_are_named_after_their_place(tmp_path):
    from safetensors import safe_open

    lj.save_variables(tmp_path / "a", lj.create_model("mnist_cnn").init(jax.random.key(0)))
    with safe_open(tmp_path / "a", "np") as file:
        assert sorted(file.keys()) == [
            f"params/{layer}/{name}" for layer in ("conv1", "conv2", "softmax") for name in ("bias", "kernel")
        ]


def test_another_model_is_refused(tmp_path):
    path = tmp_path / "a"
    lj.save_variables(path, lj.create_model("lenet").init(jax.random.key(0)))
    for model, message in (
        (lj.create_model("mnist_cnn"), r"also has 'params/hidden/bias'"),
        (lj.create_model("lenet", hidden_units=7), r"'params/hidden/bias' must have shape \(7,\); it has \(500,\)"),
    ):
        with pytest.raises(lj.InputError, match=message):
            lj.load_variables(path, model)


@pytest.mark.parametrize("damage", [lambda content: content[:100], lambda content: b"", lambda content: b"\xff" * 64])
def test_a_damaged_file_is_refused(damage, tmp_path):
    model = lj.create_model("mnist_cnn")
    lj.save_variables(tmp_path / "a", model.init(jax.random.key(0)))
    (tmp_path / "a").write_bytes(damage((tmp_path / "a").read_bytes()))
    with pytest.raises(lj.InputError, match="`path` must be an intact safetensors file"):
        lj.load_variables(tmp_path / "a", model)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(lj.InputError, match=r"`path` must be a safetensors file; .*none is none"):
        lj.load_variables(tmp_path / "none", lj.create_model("mnist_cnn"))
