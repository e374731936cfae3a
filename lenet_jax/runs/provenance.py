"""What a run is made of: code, versions, machine, data, configuration."""

import dataclasses
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

from lenet_jax.config import Config
from lenet_jax.data import digest_dataset
from lenet_jax.environment import is_deterministic
from lenet_jax.errors import InputError
from lenet_jax.types import Dataset

_PACKAGES = ("lenet-jax", "jax", "jaxlib", "optax", "numpy", "hydra-core", "tensorflow-datasets")
_CODE = ("lenet_jax", "conf")  # what a run executes; records beside it may change meanwhile
_CONDITIONS = ("code", "versions", "data", "devices", "environment", "precision")  # of all that is recorded
_ENVIRONMENT = (
    "XLA_FLAGS", "JAX_PLATFORMS", "JAX_NUM_CPU_DEVICES", "JAX_ENABLE_X64", "JAX_DEFAULT_MATMUL_PRECISION",
    "OMP_NUM_THREADS",
)  # fmt: skip


def describe_run(config: Config, dataset: Dataset) -> dict[str, Any]:
    """Return what `run.json` records of a run before it starts. Of the environment, only listed variables."""
    return {
        "config": dataclasses.asdict(config),
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
            "compute": "float32",
            "matmul": config.trainer.matmul_precision,
            "x64": jax.config.read("jax_enable_x64"),
            "deterministic": is_deterministic(),
        },
        "data": {
            "name": config.data.name,
            "source": config.data.source,
            "sha256": digest_dataset(dataset),
            "train": len(dataset.train.labels),
            "validation": len(dataset.validation.labels),
            "test": len(dataset.test.labels),
            "image_shape": list(dataset.train.images.shape[1:]),
            "num_classes": dataset.num_classes,
        },
    }


def reproducibility(described: Mapping[str, Any], strategy: str) -> dict[str, str]:
    """Return how exactly a run can be repeated under the recorded conditions, and why.

    Args:
        described: as `describe_run`.
        strategy: as in `lenet_jax.runs.programs.compile_programs`.
    """
    if strategy == "vmap":
        why = "operations for several runs at once round differently with the number of runs"
        return {"level": "tolerance", "why": why}
    if all(device["platform"] == "cpu" for device in described["devices"]):
        why = "on a CPU the same program gives the same bits, with the same number of devices"
        return {"level": "bitwise", "why": why}
    if is_deterministic(described["environment"]):
        return {"level": "bitwise", "why": "trainer.deterministic: operations that add in a fixed order"}
    why = "operations of an accelerator may add in any order; trainer.deterministic=true forbids it"
    return {"level": "tolerance", "why": why}


def changed_conditions(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """Return what can change the result of a run and has changed: full key, value then, value now.

    Args:
        then: `run.json` of a run.
        now: as `describe_run`.
    """
    found = differences({key: then.get(key) for key in _CONDITIONS}, {key: now.get(key) for key in _CONDITIONS})
    return [(key, one, other) for key, one, other in found if key not in ("code.revision", "code.dirty")]


def differences(then: Any, now: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Yield the full key of each value that differs between nested dictionaries, and both values."""
    if isinstance(then, dict) and isinstance(now, dict):
        for key in [*then, *(key for key in now if key not in then)]:
            yield from differences(then.get(key), now.get(key), f"{path}.{key}" if path else str(key))
    elif then != now:
        yield path, then, now


def changed_since(kind: str, key: str, then: Any, now: Any) -> InputError:
    """Return the error for a run or a sweep, its `kind`, that is not what it was."""
    return InputError(
        f"`{key}` must be what it was when the {kind} began; it was {then!r} and is {now!r}; "
        "--allow-changed goes on all the same."
    )


def digest_parameters(params: Any) -> str:
    """Return the SHA-256 over path, dtype, shape and bytes of each array of a pytree, in the order of the paths."""
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
    """Return the git revision of the package's own checkout, whether what a run executes differs from it, and a digest.

    Revision and difference are None where the package is installed without its checkout.
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
    """Return the SHA-256 over the names and the bytes of the package's modules."""
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(package).as_posix()} {len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest()


def _git(root: Path, *arguments: str) -> str | None:
    try:
        command = ["git", "-C", str(root), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
        return done.stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()
