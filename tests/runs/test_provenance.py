"""What is recorded of a run: code, versions, machine, data, configuration; and what has changed since."""

import hashlib
import json
import os
from pathlib import Path

import jax
import numpy as np
import pytest

from lenet_jax.components import complete_config
from lenet_jax.config import Config, TrainerConfig, from_dict
from lenet_jax.runs.provenance import changed_conditions, describe_data, describe_run, digest_parameters
from lenet_jax.types import Dataset, Split


def dataset(first_pixel=0):
    def split(size):
        images = np.zeros((size, 4, 4, 1), np.uint8)
        images[0, 0, 0, 0] = first_pixel
        return Split(images, np.zeros(size, np.int32))

    return Dataset(split(3), split(2), split(1), num_classes=10)


def describe(config=None, first_pixel=0):
    config = complete_config(config or Config())
    return describe_run(config, describe_data(config.data, dataset(first_pixel)))


def test_a_run_is_described_by_code_versions_machine_data_and_configuration():
    described = json.loads(json.dumps(describe(Config(seed=3))))
    assert described["seed"] == 3
    assert described["versions"]["numpy"] == np.__version__
    assert described["code"].keys() == {"revision", "dirty", "sha256", "components", "modules", "project"}
    assert described["platform"]["cpu_count"] == os.cpu_count()
    assert described["devices"][0]["platform"] == "cpu"
    assert described["precision"] == {"compute": "float32", "matmul": "highest", "x64": False, "deterministic": False}
    data = {key: described["data"][key] for key in ("train", "validation", "test", "image_shape", "num_classes")}
    assert data == {"train": 3, "validation": 2, "test": 1, "image_shape": [4, 4, 1], "num_classes": 10}


@pytest.mark.parametrize("compute_dtype", ["float32", "bfloat16"])
def test_the_recorded_precision_is_that_of_the_run(compute_dtype):
    config = Config(trainer=TrainerConfig(compute_dtype=compute_dtype, matmul_precision="high"))
    precision = describe(config)["precision"]
    assert (precision["compute"], precision["matmul"]) == (compute_dtype, "high")


def test_other_pixels_are_other_data():
    first, second = (describe(first_pixel=pixel)["data"]["sha256"] for pixel in (0, 1))
    assert first != second


def test_of_the_environment_only_the_listed_variables_are_recorded(monkeypatch):
    monkeypatch.setenv("SECRET_TOKEN", "the-token")
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    described = describe()
    assert described["environment"]["OMP_NUM_THREADS"] == "2"
    assert described["environment"].keys() <= {
        "XLA_FLAGS", "JAX_PLATFORMS", "JAX_NUM_CPU_DEVICES", "JAX_ENABLE_X64", "JAX_DEFAULT_MATMUL_PRECISION",
        "OMP_NUM_THREADS",
    }  # fmt: skip
    assert "the-token" not in json.dumps(described)


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
    recorded = json.loads(json.dumps(describe(Config(seed=3))["config"]))
    assert complete_config(from_dict(recorded)) == complete_config(Config(seed=3))


# ---- what has changed -----------------------------------------------------------------------------------------------


def test_nothing_has_changed_between_two_descriptions_of_one_run():
    assert changed_conditions(json.loads(json.dumps(describe())), describe()) == []


def test_each_condition_that_has_changed_is_named_with_both_values(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    recorded = json.loads(json.dumps(describe()))
    recorded["versions"]["jax"] = "0.9"
    recorded["environment"]["OMP_NUM_THREADS"] = "3"
    recorded["precision"]["compute"] = "bfloat16"
    recorded["code"] |= {"revision": "0" * 40, "dirty": None}  # the digest of the code decides
    changed = {key: old for key, old, _ in changed_conditions(recorded, describe())}
    assert changed == {
        "versions.jax": "0.9", "environment.OMP_NUM_THREADS": "3", "precision.compute": "bfloat16",
    }  # fmt: skip


def test_other_data_of_the_same_name_have_changed():
    ((key, old, new),) = changed_conditions(describe(first_pixel=1), describe())
    assert key == "data.sha256"
    assert old != new


def test_a_package_that_was_not_recorded_is_not_compared_and_one_that_is_gone_is():
    recorded = describe()
    recorded["versions"] = {"jax": recorded["versions"]["jax"], "gone": "1.0"}
    assert changed_conditions(recorded, describe()) == [("versions.gone", "1.0", None)]


def test_a_setting_that_changes_random_numbers_is_compared():
    recorded = json.loads(json.dumps(describe()))
    with jax.threefry_partitionable(False), jax.default_prng_impl("rbg"), jax.default_matmul_precision("highest"):
        changed = changed_conditions(recorded, describe())
    assert changed == [
        ("settings.jax_threefry_partitionable", True, False),
        ("settings.jax_default_prng_impl", "threefry2x32", "rbg"),
        ("settings.jax_default_matmul_precision", None, "highest"),
    ]


def test_another_processor_is_a_change_where_it_computes():
    recorded = describe()
    current = {**recorded, "platform": {**recorded["platform"], "processor": "M2", "features": "", "system": "other"}}
    keys = ["platform.processor", "platform.features"]
    assert [key for key, _, _ in changed_conditions(recorded, current) if recorded["platform"]["features"]] == keys
    gpu = {"devices": [{"platform": "gpu", "kind": "H100", "id": 0}]}
    assert changed_conditions({**recorded, **gpu}, {**current, **gpu}) == []


@pytest.mark.skipif(not Path("/proc/cpuinfo").exists(), reason="Linux lists the features of a processor")
def test_the_features_of_the_processor_are_those_that_linux_lists():
    listed = set(Path("/proc/cpuinfo").read_text().split())
    features = describe()["platform"]["features"].split()
    assert set(features) <= listed
    assert {name for name in ("avx2", "avx512f", "fma", "asimd") if name in listed} <= set(features)


def test_records_without_settings_modules_and_features_are_not_compared_in_them():
    recorded = json.loads(json.dumps(describe()))
    del recorded["settings"], recorded["platform"]["features"]
    recorded["code"] = {name: recorded["code"][name] for name in ("revision", "dirty", "sha256")}
    current = describe()
    current["code"]["modules"] = {"lab.nets": {"file": "lab/nets.py", "sha256": "1"}}
    assert changed_conditions(recorded, current) == []


def test_a_module_of_the_users_that_has_changed_is_named_by_its_file():
    recorded, current = describe(), describe()
    for each, digest in ((recorded, "1"), (current, "2")):
        each["code"]["modules"] = {"lab.nets": {"file": "lab/nets.py", "sha256": digest}}
        each["code"]["project"] = {"revision": digest, "dirty": True, "patch": None}
    assert changed_conditions(recorded, current) == [("code.modules.lab/nets.py", "1", "2")]


@pytest.mark.parametrize("value", [None, 3, "text", [], ["text"], {"modules": 3}])
def test_a_damaged_condition_has_changed_and_is_no_crash(value):
    current = describe()
    for key in ("code", "data", "platform", "settings", "versions", "precision", "devices"):
        assert all(name.startswith(key) for name, _, _ in changed_conditions({**current, key: value}, current))
