"""The provenance of a run: code, versions, machine, data, configuration."""

import datetime
import functools
import hashlib
import os
import platform
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import jax
import numpy as np

from lenet_jax.components import targets
from lenet_jax.config import Config, to_dict
from lenet_jax.config.catalogue import TARGET
from lenet_jax.data.class_names import class_names
from lenet_jax.data.streams import StreamedDataset
from lenet_jax.environment import command, is_deterministic
from lenet_jax.errors import InputError
from lenet_jax.evaluation import count_examples
from lenet_jax.given_objects import is_given
from lenet_jax.runs.source_code import changed_modules, describe_code, describe_versions
from lenet_jax.types import Dataset

_PACKAGES = (
    *("lenet-jax", "jax", "jaxlib", "flax", "optax", "numpy", "safetensors", "hydra-core", "omegaconf"),
    *("optuna", "tensorflow-datasets", "array-record", "equinox", "scipy", "ml-dtypes", "chex"),
)
_PLATFORM_PACKAGES = ("jax-", "nvidia-", "libtpu")  # beginnings of the names of those that compute on accelerators
# Keys that may change the result.
_CONDITIONS = (
    *("code", "versions", "data", "init", "devices", "mesh", "platform", "environment", "precision", "settings"),
)
_EXTENDED = ("versions", "platform", "precision", "settings")  # conditions that have fewer keys in older records
_SETTINGS = (
    "jax_threefry_partitionable", "jax_default_prng_impl", "jax_random_seed_offset", "jax_default_matmul_precision",
    "jax_disable_most_optimizations",
)  # fmt: skip  # of JAX, that change random numbers or rounding
_PROCESSOR = ("machine", "processor", "features")  # what machine code and its rounding depend on
_FEATURES = (
    "sse4_2", "avx", "f16c", "fma", "avx2", "avx_vnni", "avx512f", "avx512dq", "avx512bw", "avx512vl", "avx512_vnni",
    "avx512_bf16", "avx512_fp16", "amx_tile", "amx_int8", "amx_bf16", "asimd", "asimdhp", "bf16", "i8mm", "sve", "sve2",
)  # fmt: skip  # of a processor, as Linux names them
_ENVIRONMENT = (
    "XLA_FLAGS", "JAX_PLATFORMS", "JAX_NUM_CPU_DEVICES", "JAX_ENABLE_X64", "JAX_DEFAULT_MATMUL_PRECISION",
    "OMP_NUM_THREADS",
)  # fmt: skip


def describe_run(config: Config, data: Mapping[str, Any]) -> dict[str, Any]:
    """Return the provenance that `run.json` records before a run starts.

    Only the environment variables in a fixed list are recorded.

    Args:
        config: the complete configuration of the run, whose components are built.
        data: the result of `describe_data`.
    """
    return {
        "config": to_dict(config),
        "seed": config.seed,
        **describe_process(target for _, target in targets(config)),
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


def describe_process(components: Iterable[str]) -> dict[str, Any]:
    """Return the provenance that runs of one process share, whose components are built: code, versions, machine.

    Args:
        components: the import paths of their functions.
    """
    components = sorted(set(components))
    installed = installed_distributions()
    names = [*_PACKAGES, *(name for name in installed if name.startswith(_PLATFORM_PACKAGES))]
    versions = {name: _version(name) for name in names}
    return {
        "versions": {"python": platform.python_version(), **versions, **describe_versions(components)},
        "distributions": installed,
        "code": describe_code(components),
        "platform": {
            "system": platform.platform(),
            "machine": platform.machine(),
            **_describe_processor(),
            "cpu_count": os.cpu_count(),
        },
        "settings": {name: _read_setting(name) for name in _SETTINGS},
    }


def describe_start() -> dict[str, str]:
    """Return when, where and by which command a run starts or resumes: UTC, the host's name, text for a shell."""
    return {"started": utc_now(), "host": platform.node(), "command": shlex.join(command())}


def utc_now() -> str:
    """Return the time, UTC, in seconds, as ISO 8601 has it."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def describe_data(node: Mapping[str, Any], dataset: Dataset) -> dict[str, Any]:
    """Return the provenance that `run.json` records of a data set.

    Args:
        node: the configuration of the component that loaded it.
        dataset: the data set.
    """
    inputs, names = jax.tree.leaves(dataset.train.inputs), class_names(node)
    return {
        "name": node.get("name", node[TARGET]),
        "source": node[TARGET],
        "sha256": digest_dataset(dataset),
        "train": count_examples(dataset.train),
        "validation": count_examples(dataset.validation),
        "test": count_examples(dataset.test),
        "image_shape": list(inputs[0].shape[1:]),
        "dtype": str(inputs[0].dtype),
        "num_classes": dataset.num_classes,
        **({} if names is None else {"class_names": list(names)}),
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

    A package, a module or a setting that was not recorded is not compared; older records have fewer. The processor is
    compared if it computes.

    Args:
        recorded: the content of the run's `run.json`, or of `sweep.json`.
        current: the result of `describe_run`; a condition that it lacks is not compared.
    """
    changed: list[tuple[str, Any, Any]] = []
    for key in _CONDITIONS:
        if key in current:
            old, new = (_compared(key, each, recorded) for each in (recorded, current))
            if key in _EXTENDED:
                new = {name: value for name, value in new.items() if name in old}
            changed += differences(old, new, key)
        if key == "code":
            modules = (_mapping(_mapping(each.get(key)).get("modules")) for each in (recorded, current))
            changed += [(f"{key}.modules.{file}", old, new) for file, old, new in changed_modules(*modules)]
            given = (
                _given_objects(_mapping(_mapping(each.get(key)).get("components"))) for each in (recorded, current)
            )
            changed += differences(*given, f"{key}.components")
    return changed


def _compared(key: str, description: Mapping[str, Any], recorded: Mapping[str, Any]) -> Any:
    """Return the part of a condition that is compared, of the record or of the current description."""
    value = description.get(key)
    match key:
        case "code":  # the digest decides, not the revision
            return {"sha256": _mapping(value).get("sha256")}
        case "data":  # the digest decides; older records have other names, or none
            parts = dict(enumerate(value)) if isinstance(value, list) else {"": value}  # a sweep has several
            found = {
                name: _without(_mapping(part), ("name", "source", "class_names", "dtype"))
                for name, part in parts.items()
            }
            return found if isinstance(value, list) else found[""]
        case "init":  # the digest decides; the file may have been moved
            if isinstance(value, list):  # a sweep has several
                return [_mapping(part).get("sha256") for part in value]
            return {"sha256": _mapping(value).get("sha256")}
        case "platform":
            devices = recorded.get("devices")
            others = isinstance(devices, list) and any(_mapping(each).get("platform") != "cpu" for each in devices)
            names = () if others else _PROCESSOR
            return {name: each for name, each in _mapping(value).items() if name in names}
        case "precision" if _is_of_first_edition(recorded):
            return _without(_mapping(value), ("compute",))
    return _mapping(value) if key in _EXTENDED else value


def _given_objects(components: Mapping[str, Any]) -> dict[str, Any]:
    """Return the digests of the source of those components that are objects of a Python session."""
    return {name: _mapping(each).get("sha256") for name, each in components.items() if is_given(name)}


def _mapping(value: Any) -> Mapping[str, Any]:
    """Return a value if it is a mapping, else an empty one: a record may have been written by anybody."""
    return value if isinstance(value, Mapping) else {}


def _without(values: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name not in names}


def _is_of_first_edition(recorded: Mapping[str, Any]) -> bool:
    """Return whether the first edition wrote a record; it recorded float32 for every compute dtype."""
    return "name" in ((recorded.get("config") or {}).get("model") or {})


def differences(old: Any, new: Any, path: str = "", *, absent: Any = None) -> Iterator[tuple[str, Any, Any]]:
    """Yield each difference between nested dictionaries: full key, old value and new value.

    Args:
        old: the one.
        new: the other.
        path: the key at which they are.
        absent: what stands for the value of a key that only the other has.
    """
    if isinstance(old, dict) and isinstance(new, dict):
        for key in [*old, *(key for key in new if key not in old)]:
            full = f"{path}.{key}" if path else str(key)
            yield from differences(old.get(key, absent), new.get(key, absent), full, absent=absent)
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
    """Return the SHA-256 of the inputs and targets of all splits, with their dtypes and shapes.

    Of streamed data it is that of some of the examples; see `StreamedDataset.digest`.
    """
    if isinstance(dataset, StreamedDataset):
        return dataset.digest()
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


@functools.cache
def installed_distributions() -> dict[str, str]:
    """Return the version of each distribution that can be imported, by its name in lower case with hyphens."""
    found = {}
    for distribution in metadata.distributions():
        if name := distribution.metadata["Name"]:
            found.setdefault(re.sub(r"[-_.]+", "-", name).lower(), distribution.version)  # the first on the path
    return dict(sorted(found.items()))


_PIN = re.compile(r"[A-Za-z0-9][\w.-]*==[A-Za-z0-9][\w.+!-]*")  # a record may hold anything


def install_line(recorded: Mapping[str, Any]) -> str:
    """Return the command that installs what a run was made with, for a shell; "" if that is not recorded.

    Args:
        recorded: the content of the run's `run.json`.
    """
    versions = _mapping(recorded.get("versions"))
    names = {**_mapping(recorded.get("distributions")), **{k: v for k, v in versions.items() if k != "python"}}
    pins = [f"{name}=={version}" for name, version in names.items() if version]  # a package may not be installed
    pins = [pin for pin in pins if _PIN.fullmatch(pin)]
    if not pins:
        return ""
    python = ".".join(str(versions.get("python") or "3").split(".")[:2])
    return shlex.join([f"python{python}", "-m", "pip", "install", *pins])


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _read_setting(name: str) -> Any:
    """Return a setting of JAX; those that can be set for a block are attributes."""
    return getattr(jax.config, name) if hasattr(jax.config, name) else jax.config.read(name)


def _describe_processor() -> dict[str, str]:
    """Return the name of the processor, and which of `_FEATURES` it has, as far as Linux says so."""
    try:
        lines = [line.partition(":") for line in Path("/proc/cpuinfo").read_text().splitlines()]
    except OSError:
        lines = []
    values = {name.strip(): value.strip() for name, _, value in reversed(lines)}  # of the first core
    features = values.get("flags", values.get("Features", "")).split()
    return {
        "processor": values.get("model name", platform.processor()),
        "features": " ".join(name for name in _FEATURES if name in features),
    }
