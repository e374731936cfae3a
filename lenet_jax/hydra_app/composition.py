"""Hydra's side of the configuration: `conf/`, the schemas that it names, and the jobs that a command line asks for."""

import contextlib
import copy
import dataclasses
import functools
import secrets
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from hydra import version
from hydra._internal.config_loader_impl import ConfigLoaderImpl, get_overrides_dirname
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path
from hydra.core.config_loader import ConfigLoader
from hydra.core.config_search_path import SearchPathQuery
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType
from hydra.types import RunMode
from omegaconf import OmegaConf, open_dict, read_write
from omegaconf.errors import OmegaConfBaseException

from lenet_jax.config import SCHEMAS, Config, SweepConfig, from_dict
from lenet_jax.errors import InputError
from lenet_jax.hydra_app.loader import CheckedLoader
from lenet_jax.sections import build

MALFORMED = (AttributeError, LookupError, RecursionError, TypeError, ValueError)
"""What Hydra answers to some malformed overrides, besides its own errors."""

Composed = Any
"""What Hydra composes, a `DictConfig`; its base classes have annotations that checkers at run time refuse."""


def config_directory() -> Path:
    """Return the folder `conf`: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).resolve().parents[1]
    return next(path for path in (package / "conf", package.parent / "conf") if path.is_dir())


def to_config(composed: Any) -> Config:
    """Turn what Hydra composed into the checked configuration of a run; Hydra's own part and `sweep` are left out.

    Raises:
        InputError: for the first value that breaks its rule, with the key's full path.
    """
    return from_dict({key: value for key, value in _resolve(composed).items() if key != "sweep"})


def to_sweep_config(composed: Any) -> SweepConfig:
    """Turn the part `sweep` of what Hydra composed into the checked configuration of a sweep.

    Raises:
        InputError: for the first value that breaks its rule, with the key's full path.
    """
    return build(SweepConfig, "sweep", _resolve(composed)["sweep"])


def plugin_name(node: Any) -> str:
    """Return the class that a node of the configuration, as `hydra.launcher`, has Hydra make."""
    return node._target_.rpartition(".")[2]


def _resolve(composed: Any) -> dict[str, Any]:
    parts = {str(key): composed[key] for key in composed if key != "hydra"}
    return {
        key: OmegaConf.to_container(part, resolve=True, throw_on_missing=True) if OmegaConf.is_config(part) else part
        for key, part in parts.items()
    }


def register_schemas() -> None:
    """Offer the classes of `lenet_jax.config` to Hydra as the schemas that `conf/` names, and a resolver `run_id`."""
    OmegaConf.register_new_resolver("run_id", lambda: secrets.token_hex(4), use_cache=True, replace=True)
    store = ConfigStore.instance()
    root = _editable(Config, ("sweep", Any, dataclasses.field(default="???")))
    store.store(name="schema", node=root, provider="lenet_jax")
    for group, options in {**SCHEMAS, "sweep": {"sweep": SweepConfig}}.items():
        for name, schema in options.items():
            store.store(group=f"schema/{group}", name=name, node=_editable(schema), provider="lenet_jax")


def _editable(schema: type, *more: tuple[str, Any, Any]) -> type:
    """Return the same dataclass without its rules, and not frozen: OmegaConf refuses to override a frozen one.

    What a group of `conf/` fills in is missing until it does; `more` are further fields.
    """
    fields = []
    for field in dataclasses.fields(schema):
        kind: Any = field.type
        default: Any = dataclasses.field(default=field.default)
        if field.name in SCHEMAS:
            kind, default = Any, dataclasses.field(default="???")
        elif dataclasses.is_dataclass(kind):
            kind = _editable(kind)  # pyright: ignore[reportArgumentType]
            default = dataclasses.field(default_factory=kind)
        fields.append((field.name, kind, default))
    return dataclasses.make_dataclass(schema.__name__, [*fields, *more])


@contextlib.contextmanager
def open_hydra(
    *, config_path: str | None = None, config_dir: str | None = None, trusted: bool = True
) -> Iterator[Hydra]:
    """Open Hydra on `conf/`, or on the folders that its options --config-path and --config-dir name.

    Args:
        config_path: instead of `conf/`.
        config_dir: beside it.
        trusted: whether the configuration is the user's own; see `lenet_jax.trust`.

    Raises:
        InputError: if `config_dir` is no folder.
    """
    version.setbase("1.3")
    search_path = create_config_search_path(str(Path(config_path or config_directory()).absolute()))
    if config_dir is not None:
        folder = Path(config_dir).resolve()
        if not folder.is_dir():
            raise InputError(f"`--config-dir` must be a folder; got {config_dir}.")
        search_path.prepend("command-line", f"file://{folder}", SearchPathQuery(provider="schema"))
    GlobalHydra.instance().clear()
    try:
        hydra = Hydra("train", CheckedLoader(search_path, trusted=trusted))
        GlobalHydra.instance().initialize(hydra)
        yield hydra
    finally:
        GlobalHydra.instance().clear()


def compose_config(overrides: list[str]) -> Config:
    """Compose a configuration that is not run, and check it.

    Raises:
        InputError: if a value breaks its rule; or Hydra's own errors.
    """
    with open_hydra() as hydra:
        return to_config(compose(hydra, overrides))


def compose(hydra: Hydra, overrides: list[str], *, name: str = "config", multirun: bool = False) -> Composed:
    """Compose a run, or what the jobs of a sweep begin with: Hydra's own part and ours, as Hydra itself would.

    Raises:
        InputError: for the malformed overrides that Hydra answers with an error of Python's; or Hydra's own errors.
    """
    mode = RunMode.MULTIRUN if multirun else RunMode.RUN
    try:
        composed = hydra.compose_config(name, overrides, run_mode=mode)
    except (OmegaConfBaseException, InputError):
        raise
    except MALFORMED as error:
        raise InputError(f"{' '.join(overrides)}: {error}") from error
    if composed.hydra.mode not in (None, mode):
        raise InputError(
            f"`hydra.mode` must be {mode.name}, or null, with these options; got {composed.hydra.mode.name}."
        )
    HydraConfig.instance().set_config(composed)  # what ${hydra:...} refers to
    return composed


class JobComposer:
    """Composes the jobs of a sweep as Hydra's own launchers do, reading `conf/` once for each choice of its files.

    Reading takes Hydra a tenth of a second, a copy of what was read 20 ms, replacing the values that the job before
    has replaced too, 2 ms.
    """

    def __init__(self, loader: ConfigLoader, master: Composed) -> None:
        """Take Hydra's loader, and the composition of the sweep."""
        self._loader = loader
        self._master = master
        self._bases: dict[tuple[str, ...], Composed] = {}
        self._last: tuple[Any, Composed] = None, None  # which files and keys the job before had, and its composition
        self._is_file = functools.cache(lambda key: bool(loader.get_group_options(key)) or key.startswith("hydra"))

    def compose(self, overrides: Sequence[str], number: int) -> Composed:
        """Compose job `number`, and make it what ${hydra:...} refers to; the next call may change it.

        Raises:
            Hydra's own errors.
        """
        parsed = OverridesParser.create().parse_overrides(list(overrides))
        values = [override for override in parsed if self._is_value(override)]
        files = tuple(str(override.input_line) for override in parsed if not self._is_value(override))
        if files not in self._bases:
            self._bases[files] = self._loader.load_sweep_config(self._master, list(files))
        replaced = files, tuple(override.key_or_group for override in values)
        before, composed = self._last
        if replaced != before or any(isinstance(override.value(), dict) for override in values):  # a dict is merged
            composed = copy.deepcopy(self._bases[files])
        self._last = replaced, composed
        ConfigLoaderImpl._apply_overrides_to_config(values, composed)

        own = [override for override in parsed if not override.is_hydra_override()]
        with open_dict(composed), read_write(composed.hydra):
            composed.hydra.overrides.task = [override.input_line for override in own]
            names = composed.hydra.job.config.override_dirname
            composed.hydra.job.override_dirname = get_overrides_dirname(
                own, exclude_keys=names.exclude_keys, item_sep=names.item_sep, kv_sep=names.kv_sep
            )
            composed.hydra.job.id = composed.hydra.job.num = number
            composed.hydra.runtime.output_dir = "???"
        OmegaConf.copy_cache(from_config=self._master, to_config=composed)
        HydraConfig.instance().cfg = composed  # `set_config` would copy it
        return composed

    def _is_value(self, override: Override) -> bool:
        """Tell whether an override replaces a value rather than a file of `conf/`."""
        return (
            override.type is OverrideType.CHANGE
            and override.package is None
            and not self._is_file(override.key_or_group)
        )
