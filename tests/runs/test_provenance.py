import hashlib
import json
import os
import subprocess

import numpy as np
import pytest

from lenet_jax.config import Config, from_dict
from lenet_jax.runs import provenance
from lenet_jax.runs.provenance import describe_run, digest_parameters
from lenet_jax.types import Dataset, Split


def dataset(first_pixel=0):
    def split(size):
        images = np.zeros((size, 4, 4, 1), np.uint8)
        images[0, 0, 0, 0] = first_pixel
        return Split(images, np.zeros(size, np.int32))

    return Dataset(split(3), split(2), split(1))


def test_a_run_is_described_by_code_versions_machine_data_and_configuration():
    config = Config(seed=3)
    described = json.loads(json.dumps(describe_run(config, dataset())))
    assert described["seed"] == 3
    assert described["versions"]["numpy"] == np.__version__
    assert described["code"].keys() == {"revision", "dirty", "sha256"}
    assert described["platform"]["cpu_count"] == os.cpu_count()
    assert described["devices"][0]["platform"] == "cpu"
    assert described["precision"] == {"compute": "float32", "matmul": "highest", "x64": False, "deterministic": False}
    data = {key: described["data"][key] for key in ("train", "validation", "test", "image_shape", "num_classes")}
    assert data == {"train": 3, "validation": 2, "test": 1, "image_shape": [4, 4, 1], "num_classes": 10}


def test_other_pixels_are_other_data():
    first, second = (describe_run(Config(), dataset(pixel))["data"]["sha256"] for pixel in (0, 1))
    assert first != second


def test_of_the_environment_only_the_listed_variables_are_recorded(monkeypatch):
    monkeypatch.setenv("SECRET_TOKEN", "the-token")
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    described = describe_run(Config(), dataset())
    assert described["environment"]["OMP_NUM_THREADS"] == "2"
    assert described["environment"].keys() <= {
        "XLA_FLAGS", "JAX_PLATFORMS", "JAX_NUM_CPU_DEVICES", "JAX_ENABLE_X64", "JAX_DEFAULT_MATMUL_PRECISION",
        "OMP_NUM_THREADS",
    }  # fmt: skip
    assert "the-token" not in json.dumps(described)


def test_only_changes_of_code_and_configuration_are_dirt(tmp_path, monkeypatch):
    def git(*arguments):
        identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
        subprocess.run(["git", "-C", str(tmp_path), *identity, *arguments], check=True, capture_output=True)

    module = tmp_path / "lenet_jax" / "runs" / "provenance.py"
    module.parent.mkdir(parents=True)
    module.write_text("")
    git("init")
    git("add", ".")
    git("commit", "-m", "one")
    monkeypatch.setattr("lenet_jax.runs.provenance.__file__", str(module))
    (tmp_path / "outputs").mkdir()
    (tmp_path / "outputs" / "result.json").write_text("{}")
    assert describe_run(Config(), dataset())["code"]["dirty"] is False
    module.write_text("changed")
    assert describe_run(Config(), dataset())["code"]["dirty"] is True


def test_without_git_the_revision_is_unknown(monkeypatch):
    monkeypatch.setenv("PATH", "")
    code = describe_run(Config(), dataset())["code"]
    assert (code["revision"], code["dirty"]) == (None, None)


def test_the_digest_is_over_path_dtype_shape_and_bytes():
    kernel = np.arange(6, dtype=np.float32).reshape(2, 3)
    expected = hashlib.sha256(b"['conv1']['kernel'] float32 (2, 3)" + kernel.tobytes())
    assert digest_parameters({"conv1": {"kernel": kernel}}) == expected.hexdigest()


def test_the_digest_does_not_depend_on_the_order_of_a_dictionary():
    a, b = np.ones(2, np.float32), np.zeros(3, np.float32)
    assert digest_parameters({"a": a, "b": b}) == digest_parameters({"b": b, "a": a})


@pytest.mark.parametrize(
    "changed",
    [
        {"a": np.nextafter(np.ones(2, np.float32), np.float32(2))},
        {"a": np.array([1.0, -1.0], np.float32)},
        {"a": np.ones((2, 1), np.float32)},
        {"a": np.ones(2, np.float32).view(np.int32)},
        {"b": np.ones(2, np.float32)},
    ],
    ids=["one bit", "one sign", "shape", "dtype", "name"],
)
def test_the_digest_changes_with_whatever_changes(changed):
    assert digest_parameters(changed) != digest_parameters({"a": np.ones(2, np.float32)})


def test_the_recorded_configuration_gives_the_configuration_again():
    assert from_dict(describe_run(Config(seed=3), dataset())["config"]) == Config(seed=3)


def test_the_digest_of_the_code_changes_with_a_name_and_with_a_byte(tmp_path):
    digests = set()
    for name, content in (("a.py", "x = 1"), ("a.py", "x = 2"), ("b.py", "x = 2")):
        folder = tmp_path / str(len(digests))
        folder.mkdir()
        (folder / name).write_text(content)
        digests |= {provenance._digest_code(folder)}
    assert len(digests) == 3
