"""The provenance of a run: code, versions, machine, data, configuration."""

import hashlib
import os
import platform
import subprocess
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import jax
import numpy as np

from lenet_jax.config import Config, to_dict
from lenet_jax.config.catalogue import TARGET
from lenet_jax.environment import is_deterministic
from lenet_jax.errors import InputError
from lenet_jax.evaluation import count_examples
from lenet_jax.types import Dataset

_PACKAGES = (
    *("lenet-jax", "jax", "jaxlib", "flax", "optax", "numpy", "safetensors", "hydra-core", "omegaconf"),
    *("optuna", "tensorflow-datasets", "array-record", "equinox"),
)
_CODE = ("lenet_jax", "conf")  # the folders of the repository that a run executes
_CONDITIONS = ("code", "versions", "data", "devices", "environment", "precision")  # keys that may change the result
_EXTENDED = ("versions", "precision")  # conditions that have fewer keys in records of the first edition
_ENVIRONMENT = (
    "XLA_FLAGS", "JAX_PLATFORMS", "JAX_NUM_CPU_DEVICES", "JAX_ENABLE_X64", "JAX_DEFAULT_MATMUL_PRECISION",
    "OMP_NUM_THREADS",
)  # fmt: skip


def describe_run(config: Config, data: Mapping[str, Any]) -> dict[str, Any]:
    """Return the provenance that `run.json` records before a run starts.

    Only the environment variables in a fixed list are recorded.

    Args:
        config: the complete configuration of the run.
        data: the result of `describe_data`.
    """
    return {
        "config": to_dict(config),
        "seed": config.seed,
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in _PACKAGES}},
        "code": _describe_code(),
        "platform": {
            "system": platform.platform(),
            "machine": platform.machine(),
            "processor": _processor(),
            "cpu_count": os.cpu_count(),
        },
        "devices": [{"platform": d.platform, "kind": d.device_kind, "id": d.id} for d in jax.devices()],
        "environment": {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ},
        "precision": {
            "compute": config.trainer.compute_dtype,
            "matmul": config.trainer.matmul_precision,
            "x64": jax.config.read("jax_enable_x64"),
            "deterministic": is_deterministic(),
        },
        "data": dict(data),
    }


def describe_data(node: Mapping[str, Any], dataset: Dataset) -> dict[str, Any]:
    """Return the provenance that `run.json` records of a data set.

    Args:
        node: the configuration of the component that loaded it.
        dataset: the data set.
    """
    inputs = jax.tree.leaves(dataset.train.inputs)
    return {
        "name": node.get("name", node[TARGET]),
        "source": node[TARGET],
        "sha256": digest_dataset(dataset),
        "train": count_examples(dataset.train),
        "validation": count_examples(dataset.validation),
        "test": count_examples(dataset.test),
        "image_shape": list(inputs[0].shape[1:]),
        "num_classes": dataset.num_classes,
    }


def reproducibility(description: Mapping[str, Any], strategy: str) -> dict[str, str]:
    """Return how exactly a run can be repeated in the recorded environment, and the reason.

    Args:
        description: the result of `describe_run`.
        strategy: as in `lenet_jax.runs.programs.compile_programs`.

    Returns:
        `level`, "bitwise" or "tolerance", and `why`.
    """
    if strategy == "vmap":
        why = "operations for several runs at once round differently with the number of runs"
        return {"level": "tolerance", "why": why}
    if all(device["platform"] == "cpu" for device in description["devices"]):
        why = "on a CPU the same program gives the same bits, with the same number of devices"
        return {"level": "bitwise", "why": why}
    if is_deterministic(description["environment"]):
        return {"level": "bitwise", "why": "trainer.deterministic: operations that add in a fixed order"}
    why = "operations of an accelerator may add in any order; trainer.deterministic=true forbids it"
    return {"level": "tolerance", "why": why}


def changed_conditions(recorded: Mapping[str, Any], current: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """Return the changes since a run that may change its result: full key, recorded value and current value.

    A package or a setting of the precision that was not recorded is not compared; the first edition recorded fewer.

    Args:
        recorded: the content of the run's `run.json`.
        current: the result of `describe_run`.
    """
    pairs = [{key: each.get(key) for key in _CONDITIONS} for each in (recorded, current)]
    old, new = ({**each, **{name: dict(each[name] or {}) for name in _EXTENDED}} for each in pairs)
    for name in _EXTENDED:
        for key in set(new[name]) - set(old[name]):
            del new[name][key]
    for each in (old, new):  # the digest identifies the data; the first edition recorded other names of the sources
        each["data"] = {key: value for key, value in (each["data"] or {}).items() if key not in ("name", "source")}
    if _is_of_first_edition(recorded):
        for each in (old, new):
            each["precision"].pop("compute", None)
    found = differences(old, new)
    return [(key, one, other) for key, one, other in found if key not in ("code.revision", "code.dirty")]


def _is_of_first_edition(recorded: Mapping[str, Any]) -> bool:
    """Return whether the first edition wrote a record; it recorded float32 for every compute dtype."""
    return "name" in ((recorded.get("config") or {}).get("model") or {})


def differences(old: Any, new: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Yield each difference between nested dictionaries: full key, old value and new value."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in [*old, *(key for key in new if key not in old)]:
            yield from differences(old.get(key), new.get(key), f"{path}.{key}" if path else str(key))
    elif old != new:
        yield path, old, new


def changed_since(what: str, key: str, old: Any, new: Any) -> InputError:
    """Return the error for a run or sweep that is resumed under changed conditions.

    Args:
        what: "run" or "sweep".
        key: the full key of the value that has changed.
        old: the recorded value.
        new: the current value.
    """
    return InputError(
        f"`{key}` has changed since the {what} began, from {old!r} to {new!r}; use --allow-changed to resume anyway."
    )


def digest_dataset(dataset: Dataset) -> str:
    """Return the SHA-256 of the inputs and targets of all splits, with their dtypes and shapes."""
    digest = hashlib.sha256()
    for part in ("train", "validation", "test"):
        for array in jax.tree.leaves(getattr(dataset, part)):
            array = np.ascontiguousarray(array)
            digest.update(f"{part} {array.dtype} {array.shape}".encode())
            digest.update(array.data)
    return digest.hexdigest()


def digest_parameters(params: Any) -> str:
    """Return the SHA-256 of the path, dtype, shape and bytes of each array of a pytree, in the order of the paths."""
    digest = hashlib.sha256()
    leaves = {
        jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(params)
    }
    for path, leaf in sorted(leaves.items()):
        digest.update(f"{path} {leaf.dtype} {leaf.shape}".encode())
        digest.update(np.ascontiguousarray(leaf).data)
    return digest.hexdigest()


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _describe_code() -> dict[str, Any]:
    """Return the git revision of the package, whether the code differs from that revision, and a digest of the code.

    `revision` and `dirty` are None if the package is installed without its repository.
    """
    package = Path(__file__).resolve().parents[1]
    root = package.parent
    revision = status = None
    if (root / ".git").exists():
        revision, status = (
            _git(root, *arguments) for arguments in (("rev-parse", "HEAD"), ("status", "--porcelain", "--", *_CODE))
        )
    return {"revision": revision, "dirty": None if status is None else status != "", "sha256": _digest_code(package)}


def _digest_code(package: Path) -> str:
    """Return the SHA-256 of the names and the bytes of the package's modules."""
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(package).as_posix()} {len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest()


def _git(root: Path, *arguments: str) -> str | None:
    try:
        command = ["git", "-C", str(root), *arguments]
        completed = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
        return completed.stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()
