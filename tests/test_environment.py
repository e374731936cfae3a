"""What the environment says before JAX starts."""

import importlib.util

from lenet_jax import environment
from lenet_jax.environment import is_deterministic, make_deterministic


def tuned(monkeypatch, variables, *, cores=4, plugins=None):
    monkeypatch.setattr(environment, "available_cores", lambda: cores)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: plugins)
    environment.tune_environment(variables)
    return variables


def test_a_device_a_core_and_short_loops_not_unrolled(monkeypatch):
    assert tuned(monkeypatch, {}) == {
        "JAX_NUM_CPU_DEVICES": "4",
        "XLA_FLAGS": "--xla_backend_extra_options=-unroll-full-max-count=4",
    }


def test_not_more_devices_than_a_sweep_feeds(monkeypatch):
    assert tuned(monkeypatch, {}, cores=64)["JAX_NUM_CPU_DEVICES"] == "16"


def test_what_the_user_has_set_stays(monkeypatch):
    own = {"JAX_NUM_CPU_DEVICES": "1", "XLA_FLAGS": "--xla_backend_extra_options=-slp-threshold=1"}
    assert tuned(monkeypatch, dict(own)) == own
    flags = tuned(monkeypatch, {"XLA_FLAGS": "--xla_force_host_platform_device_count=3"})
    assert "JAX_NUM_CPU_DEVICES" not in flags
    assert flags["XLA_FLAGS"].startswith("--xla_force_host_platform_device_count=3 --xla_backend_extra_options=")


def test_compilers_for_other_platforms_get_no_flag(monkeypatch):
    assert tuned(monkeypatch, {}, plugins=object()) == {"JAX_NUM_CPU_DEVICES": "4"}


def test_deterministic_operations_are_asked_for_once_and_beside_what_the_user_has_set():
    variables = {"XLA_FLAGS": "--xla_gpu_autotune_level=0 --mine"}
    assert not is_deterministic(variables)
    make_deterministic(variables)
    assert variables == {"XLA_FLAGS": "--xla_gpu_autotune_level=0 --mine --xla_gpu_deterministic_ops=true"}
    assert is_deterministic(variables)
    make_deterministic(variables)
    assert variables["XLA_FLAGS"].count("--xla_gpu_deterministic_ops") == 1


def test_flags_in_a_file_stay_and_ours_are_beside_them(monkeypatch, tmp_path):
    (tmp_path / "flags.txt").write_text("--one=1\n--two=2\n")
    flags = tuned(monkeypatch, {"XLA_FLAGS": str(tmp_path / "flags.txt")})["XLA_FLAGS"]
    assert flags == "--one=1 --two=2 --xla_backend_extra_options=-unroll-full-max-count=4"
    variables = {"XLA_FLAGS": str(tmp_path / "flags.txt")}
    make_deterministic(variables)
    assert is_deterministic(variables)
    assert variables["XLA_FLAGS"].startswith("--one=1 --two=2 --xla_gpu_deterministic_ops=true")
