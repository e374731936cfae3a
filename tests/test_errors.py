import subprocess
import sys

import pytest

from lenet_jax.errors import InputError, unknown_name


@pytest.mark.parametrize(
    ("name", "valid", "listed"),
    [
        ("lenett", ["mnist_cnn", "lenet"], "lenet, mnist_cnn"),
        ("mnist_cn", ["lenet", "mnist_cnn"], "mnist_cnn, lenet"),
        ("resnet", ["b", "a"], "a, b"),
        (None, ["b", "a"], "a, b"),
    ],
)
def test_an_unknown_name_is_answered_with_the_valid_ones_nearest_first(name, valid, listed):
    error = unknown_name("model", name, valid)
    assert str(error) == f"`model` has no '{name}'; choose one of: {listed}."


def test_an_input_error_is_a_value_error():
    with pytest.raises(ValueError, match="one line"):
        raise InputError("one line")


@pytest.mark.parametrize("module", ["lenet_jax.errors", "lenet_jax.config"])
def test_configuration_is_checked_without_jax_and_numpy(module):
    code = f"import sys, {module}; print(sorted({{'jax', 'numpy', 'hydra'}} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
