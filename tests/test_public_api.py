"""What `import lenet_jax` offers, and what it must not pull in."""

import doctest
import importlib
import pkgutil
import subprocess
import sys

import jax.numpy as jnp
import numpy as np
import pytest

import lenet_jax as lj

HEAVY = ("hydra", "omegaconf", "tensorflow_datasets", "tensorflow", "matplotlib", "pandas", "rich", "PIL")


def modules_after(statement):
    code = f"import sys\n{statement}\nprint(*sorted({{name.partition('.')[0] for name in sys.modules}}))"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()


def test_importing_everything_pulls_in_no_effects():
    loaded = modules_after("import lenet_jax\n[getattr(lenet_jax, name) for name in lenet_jax.__all__]")
    assert "jax" in loaded
    assert not set(loaded) & set(HEAVY)


def test_importing_the_package_alone_does_not_import_jax():
    assert "jax" not in modules_after("import lenet_jax")


def test_every_public_name_is_there_and_documented():
    for name in lj.__all__:
        assert getattr(lj, name).__doc__, name
    assert set(lj.__all__) <= set(dir(lj))


def modules():
    return [
        module.name
        for module in pkgutil.walk_packages(lj.__path__, "lenet_jax.")
        if module.name not in ("lenet_jax.__main__", "lenet_jax.ops.cpu.native.kernels")  # which is no Python
    ]


NEEDS = {f"lenet_jax.engines.{name}_engine": name for name in ("ray", "joblib", "submitit")}


@pytest.mark.parametrize("name", modules())
def test_examples_in_docstrings_hold(name):
    if name in NEEDS:
        pytest.importorskip(NEEDS[name])
    module = importlib.import_module(name)
    failed, _ = doctest.testmod(module, extraglobs={"jnp": jnp, "np": np})
    assert failed == 0
