"""Composition of configurations: Hydra reads `conf/` and the overrides of a run or a sweep.

Hydra 1.3.8 has no public API for the following, so this file imports private modules of Hydra, as do `sweep.py`,
`sweep_jobs.py`, `recorded_loader.py` and `hydra_plugins/lenet_jax`:

- `Hydra`, to compose and to print --help and --cfg, without the decorator `hydra.main`, which composes by itself;
- `ConfigLoaderImpl`, whose subclass adds the options of components to the composed configuration;
- `create_config_search_path` and `get_args_parser`, the parts of `hydra.main` that find `conf/` and parse options;
- `Callbacks`, which `Hydra.run` creates only after it has composed the configuration again.
"""

import contextlib
import dataclasses
import re
import secrets
import string
import textwrap
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra import version
from hydra._internal.callbacks import Callbacks
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path
from hydra._internal.utils import get_args_parser as get_args_parser
from hydra.core.config_search_path import ConfigSearchPath, SearchPathQuery
from hydra.core.config_store import ConfigStore
from hydra.core.default_element import GroupDefault
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.utils import run_job
from hydra.errors import HydraException
from hydra.types import HydraContext, RunMode
from omegaconf import OmegaConf, open_dict, read_write
from omegaconf.errors import OmegaConfBaseException

from lenet_jax import components
from lenet_jax.config import Config, DistributedConfig, SweepConfig, TrainerConfig, from_dict, renamed_key
from lenet_jax.config.catalogue import GROUPS, built_in, config_directory, option_names
from lenet_jax.config.checks import build
from lenet_jax.errors import InputError, unknown_name
from lenet_jax.hydra_app.checks import check_names, check_text
from lenet_jax.hydra_app.recorded_loader import without_interpolations
from lenet_jax.trackers.destinations import check_destinations

MALFORMED = (AttributeError, ImportError, LookupError, RecursionError, TypeError, ValueError)
"""Python's exceptions that Hydra raises for some malformed overrides, besides its own errors."""

Composed = Any
"""A composed configuration, a `DictConfig`; run-time type checkers reject the annotations of its base classes."""

SWEEP = "sweep"
DISTRIBUTED = "distributed"
NOT_OF_A_RUN = (SWEEP, DISTRIBUTED)
"""Parts of a composition that decide no result, and are not recorded with the run."""

_HYDRA_DEFAULTS = {"help": "lenet_jax", "job_logging": "file", "launcher": "lanes", "sweeper": "grid"}
"""Group of Hydra's part -> the file that is chosen unless an override, or a file by `override /hydra/...`, chooses."""


class ComponentLoader(ConfigLoaderImpl):
    """Hydra's configuration loader with components: overrides may set any option, and defaults are filled in."""

    def __init__(
        self,
        config_search_path: ConfigSearchPath,
        allowed: Collection[str] | None = None,
        *,
        shows_required: bool = False,
    ) -> None:
        """Create the loader.

        Args:
            config_search_path: Hydra's search path.
            allowed: packages that components may name, if the overrides come from a directory; None: any.
            shows_required: whether to compose options that must be given as "???", to show a user what there is.
        """
        super().__init__(config_search_path)
        self.allowed = allowed
        self.shows_required = shows_required
        self.recorded: Mapping[str, Mapping[str, Any]] = {}
        """Group -> a run's component, whose options are the defaults in place of the function's; see `compose_data`."""

    def _process_config_searchpath(self, config_name: Any, parsed_overrides: Any, repo: Any) -> None:
        for override in parsed_overrides:
            check_text(override.get_key_element(), str(override.input_line))
            self._check_choice(override)
        super()._process_config_searchpath(config_name, parsed_overrides, repo)

    def _check_choice(self, override: Override) -> None:
        """Refuse what names no file of a group, and to merge the files of several components.

        Of merged ones, the function of the last one would get the options of all.
        """
        group = override.key_or_group
        if group and not override.is_delete() and isinstance(override.value(), bool | int | float | None):
            names = built_in(group) if group in GROUPS else self.get_group_options(group)
            if names or group in GROUPS:
                raise unknown_name(group, str(override.input_line).partition("=")[2], names)
        if group in GROUPS and group not in _LISTS and isinstance(override.value(), list):
            raise InputError(f"`{group}` must be one file of conf/{group}, or a component; got {override.input_line}.")

    def _parse_overrides_and_create_caching_repo(self, config_name: Any, overrides: list[str]) -> Any:
        """Read the files as Hydra does; those that its own part has by default are the ones of this package.

        As `override hydra/launcher: lanes` in conf/config.yaml they would win against the same line in an experiment.
        """
        parsed, repo = super()._parse_overrides_and_create_caching_repo(config_name, overrides)
        loaded: Any = repo.load_config("hydra/config")
        for default in loaded.defaults_list:
            if isinstance(default, GroupDefault):
                default.value = _HYDRA_DEFAULTS.get(str(default.group), default.value)
        return parsed, repo

    def _load_single_config(self, *arguments: Any, **options: Any) -> Any:
        """Load a file as Hydra does; a list of components in it replaces others when it is merged."""
        loaded = super()._load_single_config(*arguments, **options)
        for group in _LISTS:
            node: Any = loaded.config._get_node(group) if OmegaConf.is_dict(loaded.config) else None
            if OmegaConf.is_list(node):
                with open_dict(loaded.config), read_write(loaded.config):
                    loaded.config[group] = {_LIST: node}
        return loaded

    def _compose_config_from_defaults_list(self, *arguments: Any, **options: Any) -> Composed:
        """Compose as Hydra does, but let overrides add options to components; signatures are checked later."""
        composed = super()._compose_config_from_defaults_list(*arguments, **options)
        for group in GROUPS:
            node: Any = composed._get_node(group)
            if OmegaConf.is_dict(node):
                OmegaConf.set_struct(node, False)
        return composed

    def load_configuration(self, config_name: Any, overrides: list[str], *arguments: Any, **options: Any) -> Composed:
        """Compose as Hydra does, and fill in the defaults of components.

        Raises:
            InputError: for malformed overrides for which Hydra raises an error of Python's; or Hydra's own errors.
        """
        given = last_lists(overrides)
        overrides = [_with_list_as_value(_with_name_as_text(each)) for each in given]
        try:
            composed = super().load_configuration(config_name, overrides, *arguments, **options)
        except (OmegaConfBaseException, InputError):
            raise
        except MALFORMED as error:
            raise InputError(f"{' '.join(overrides)}: {error}") from error
        if given != overrides:
            typed = dict(zip(overrides, given, strict=True))
            with read_write(composed.hydra):
                composed.hydra.overrides.task = [typed.get(each, each) for each in task_overrides(composed.hydra)]
        for group in GROUPS:
            node = composed._get_node(group)
            if OmegaConf.is_config(node):
                content: Any = OmegaConf.to_container(node, resolve=False)
                if isinstance(content, Mapping) and _LIST in content:
                    content = list(_parts_of_list(group, content[_LIST]))
                if group in self.recorded and components.is_component(content):
                    content = {**_carried(self.recorded[group], content[components.TARGET]), **content}
                if self.allowed is not None:
                    components.check_allowed(components.targets_in(group, content), self.allowed, "the sweep")
                with open_dict(composed):
                    composed[group] = components.with_defaults(group, content, shows_required=self.shows_required)
                OmegaConf.set_struct(composed[group], False)
        return composed


def _with_name_as_text(override: str) -> str:
    """Return an override that chooses the file nan.yaml, which Hydra would take for a number, as one that names it."""
    return "debug='nan'" if override == "debug=nan" else override


def _carried(recorded: Mapping[str, Any], target: str) -> dict[str, Any]:
    """Return the options of a recorded component that another one takes over: all, or only how pixels are scaled."""
    if recorded[components.TARGET] == target:
        return dict(without_interpolations(recorded))
    names = components.signature(target).parameters
    return {name: value for name, value in recorded.items() if name == "pixel_divisor" and name in names}


# ---- lists of components --------------------------------------------------------------------------------------------

_LISTS = ("augment", "trackers")
_LIST = "_list_"  # key of a list of components: Hydra takes the list of a group for names of files, and merges mappings
_LIST_OVERRIDE = re.compile(rf"(?:\+\+)?({'|'.join(_LISTS)})=(\[.*\])", re.DOTALL)


def _with_list_as_value(override: str) -> str:
    """Return an override that gives a list of components, or of their names, as one that sets a value."""
    found = _LIST_OVERRIDE.fullmatch(override)
    is_of_names = found is not None and "{" not in found[2] and found[2].strip("[ ]") != ""
    if not found or (found[1] == "trackers" and is_of_names):  # trackers by name are files, which can be merged
        return override
    return f"++{found[1]}.{_LIST}={found[2]}"


def last_lists(overrides: Iterable[str]) -> list[str]:
    """Return overrides without the lists of components that a file replaces which is chosen after them.

    Raises:
        InputError: if an option is set of a group for which an override before it gives a list.
    """
    kept: list[str] = []
    lists: dict[str, str] = {}  # group -> override
    for override in overrides:
        key, _, value = override.lstrip("+~").partition("=")
        group = key.partition(".")[0]
        if _with_list_as_value(override) != override:
            lists[group] = override
        elif key in lists and not value.startswith(("{", "[")):
            kept.remove(lists.pop(key))
        elif group in lists and key not in (group, f"{group}.{_LIST}"):
            raise InputError(
                f"`{key}` must be set in the list that is given for {group}, {lists[group]}, as {{_target_: "
                f"package.function, option: value}}; got {override}."
            )
        kept.append(override)
    return kept


def _parts_of_list(group: str, parts: Iterable[Any]) -> Iterator[Any]:
    """Yield the components of a list, in which a name stands for a file of `conf/`.

    Raises:
        InputError: if there is no such file.
    """
    names = built_in(group)
    for each in parts:
        if not isinstance(each, str):
            yield each
        elif each not in names:
            raise unknown_name(group, each, names)
        elif components.is_component(names[each]):
            yield dict(names[each])
        else:
            yield from names[each].values()


def to_config(composed: Composed, allowed: Collection[str] | None = None) -> Config:
    """Convert a composed configuration to the checked and complete configuration of a run.

    Hydra's own part and those of `NOT_OF_A_RUN` are ignored.

    Args:
        composed: the composition.
        allowed: packages that components may name, if the overrides come from a directory; None: any.

    Raises:
        InputError: for the first option that is unknown or out of its range; the message has the full key.
    """
    config = from_dict({key: value for key, value in _resolve(composed).items() if key not in NOT_OF_A_RUN})
    if allowed is not None:
        components.check_allowed(components.targets(config), allowed, "the sweep")
        check_destinations(config, allowed, "the sweep")
    return components.complete_config(config)


def to_sweep_config(composed: Composed) -> SweepConfig:
    """Convert the part `sweep` of a composed configuration to the checked options of a sweep.

    Raises:
        InputError: for the first option that is unknown or out of its range; the message has the full key.
    """
    options: Any = OmegaConf.to_container(composed[SWEEP], resolve=True, throw_on_missing=True)
    return build(SweepConfig, SWEEP, options)


def to_distributed_config(composed: Composed) -> DistributedConfig:
    """Convert the part `distributed` of a composed configuration to its checked options.

    Raises:
        InputError: for the first option that is unknown or out of its range; the message has the full key.
    """
    options: Any = OmegaConf.to_container(composed[DISTRIBUTED], resolve=True, throw_on_missing=True)
    config = build(DistributedConfig, DISTRIBUTED, options)
    config.check()
    return config


def task_overrides(hydra: Any) -> list[str]:
    """Return the overrides of a composition as they were given: reading them one by one resolves ${...} in them.

    Args:
        hydra: Hydra's part of the composition.
    """
    overrides: Any = OmegaConf.to_container(hydra.overrides.task, resolve=False)
    return overrides


def plugin_name(node: Any) -> str:
    """Return the class name of a launcher or sweeper from its configuration."""
    return str(node["_target_"]).rpartition(".")[2]


def _resolve(composed: Composed) -> dict[str, Any]:
    parts = {str(key): composed[key] for key in composed if key != "hydra"}
    return {
        key: OmegaConf.to_container(part, resolve=True, throw_on_missing=True) if OmegaConf.is_config(part) else part
        for key, part in parts.items()
    }


def register_schemas() -> None:
    """Register the dataclasses of `lenet_jax.config` as the schemas that `conf/` names, and its resolvers."""
    OmegaConf.register_new_resolver("run_id", lambda: secrets.token_hex(4), use_cache=True, replace=True)
    OmegaConf.register_new_resolver("folder_of", lambda experiment: experiment or "default", replace=True)
    OmegaConf.register_new_resolver("two_minibatches", lambda size: 100 if size is None else 2 * size, replace=True)
    store = ConfigStore.instance()
    fields: list[Any] = [
        ("seed", int, dataclasses.field(default=Config.seed)),
        ("notes", Any, dataclasses.field(default=Config.notes)),
        ("tags", Any, dataclasses.field(default_factory=list)),
        ("init", Any, dataclasses.field(default=Config.init)),
        ("init_include", Any, dataclasses.field(default_factory=lambda: list(Config.init_include))),
        ("init_exclude", Any, dataclasses.field(default_factory=list)),
    ]
    fields += [(name, Any, dataclasses.field(default="???")) for name in (*GROUPS, "trainer", *NOT_OF_A_RUN)]
    store.store(name="schema", node=dataclasses.make_dataclass("Root", fields), provider="lenet_jax")
    for name, schema in (("trainer", TrainerConfig), (SWEEP, SweepConfig), (DISTRIBUTED, DistributedConfig)):
        store.store(group=f"schema/{name}", name=name, node=_editable(schema), provider="lenet_jax")


def _editable(schema: Any) -> Any:
    """Return a dataclass without ranges and not frozen, because OmegaConf cannot override a frozen one."""
    fields = []
    for field in dataclasses.fields(schema):
        default: Any = dataclasses.field(default=field.default)
        if dataclasses.is_dataclass(field.default):
            default = dataclasses.field(default_factory=_editable(type(field.default)))
        fields.append((field.name, Any, default))
    return dataclasses.make_dataclass(schema.__name__, fields)


@contextlib.contextmanager
def open_hydra(
    *,
    config_path: str | None = None,
    config_dir: str | None = None,
    allowed: Collection[str] | None = None,
    shows_required: bool = False,
) -> Iterator[Hydra]:
    """Initialize Hydra with `conf/`, or with the folders of its options --config-path and --config-dir.

    Args:
        config_path: the folder that replaces `conf/`.
        config_dir: a folder that is searched first.
        allowed: packages that components may name, if the overrides come from a directory; None: any.
        shows_required: as in `ComponentLoader`.

    Raises:
        InputError: if --config-dir is not a folder.
    """
    before = GlobalHydra.instance().hydra, HydraConfig.instance().cfg, version.VersionBase.instance().version_base
    version.setbase("1.3")
    register_schemas()
    search_path = create_config_search_path(str(Path(config_path or str(config_directory())).resolve()))
    if config_dir is not None:
        folder = Path(config_dir).resolve()
        if not folder.is_dir():
            raise InputError(f"`--config-dir` must be a folder; got {config_dir}.")
        search_path.prepend("command-line", f"file://{folder}", SearchPathQuery(provider="schema"))
    GlobalHydra.instance().clear()
    try:
        hydra = Hydra("train", ComponentLoader(search_path, allowed, shows_required=shows_required))
        GlobalHydra.instance().initialize(hydra)
        yield hydra
    finally:  # a program with Hydra may call this one
        GlobalHydra.instance().hydra, HydraConfig.instance().cfg, version.VersionBase.instance().version_base = before


def compose_config(overrides: list[str], *, config_dir: str | None = None) -> Config:
    """Compose and check a configuration, without running it.

    Args:
        overrides: overrides in Hydra's syntax.
        config_dir: as in `open_hydra`.

    Raises:
        InputError: if an option is unknown or out of its range; or Hydra's own errors.
    """
    with open_hydra(config_dir=config_dir) as hydra:
        return to_config(compose(hydra, overrides))


def compose_data(
    recorded: Mapping[str, Any], overrides: list[str], *, config_dir: str | None = None
) -> Mapping[str, Any]:
    """Return the data of a run with overrides applied, complete.

    Without a choice of other data, as data=NAME, it is the run's with the given options replaced. With one, options
    that neither the file nor an override sets are the run's if the same function loads the data; else its pixel divisor
    is.

    Args:
        recorded: the data of the run, complete.
        overrides: overrides of the group `data`, in Hydra's syntax.
        config_dir: as in `open_hydra`.

    Raises:
        InputError: if an option is unknown or out of its range; or Hydra's own errors.
    """
    parsed = OverridesParser.create().parse_overrides(overrides)
    with open_hydra(config_dir=config_dir) as hydra:
        loader: Any = hydra.config_loader
        loader.validate_sweep_overrides_legal(parsed, RunMode.RUN, True)
        if any(map(_chooses_data, parsed)):
            loader.recorded = {"data": recorded}
            return to_config(compose(hydra, overrides)).data
        refuse_renamed(overrides)
        composed = OmegaConf.create({"data": without_interpolations(recorded)})
        ConfigLoaderImpl._apply_overrides_to_config(parsed, composed)
        return components.complete("data", _resolve(composed)["data"])


def _chooses_data(override: Override) -> bool:
    value = override.value()
    if override.key_or_group == "data":
        return not isinstance(value, dict) or components.TARGET in value
    return override.key_or_group == f"data.{components.TARGET}"


def compose(hydra: Hydra, overrides: list[str], *, name: str = "config", multirun: bool = False) -> Composed:
    """Compose the configuration of a run, or the base configuration of a sweep, including Hydra's own part.

    Args:
        hydra: the result of `open_hydra`.
        overrides: overrides of the command line.
        name: name of the primary configuration file.
        multirun: whether to compose the base configuration of a sweep.

    Raises:
        InputError: for malformed overrides and keys of the first edition; or Hydra's own errors.
    """
    mode = RunMode.MULTIRUN if multirun else RunMode.RUN
    refuse_renamed(overrides)
    composed = hydra.compose_config(name, overrides, run_mode=mode)
    if composed.hydra.mode not in (None, mode):
        raise InputError(
            f"`hydra.mode` must be {mode.name}, or null, with these options; got {composed.hydra.mode.name}."
        )
    composed.hydra.mode = mode
    check_names(composed.hydra)
    HydraConfig.instance().set_config(composed)  # ${hydra:...} refers to it
    return composed


def is_multirun(hydra: Hydra, overrides: list[str], *, name: str = "config") -> bool:
    """Return whether overrides, or a file that they choose, ask for a sweep: `hydra.mode=MULTIRUN`.

    The files of lenet_jax do not, so that only a configuration of the user's has to be composed to find out. What is
    wrong with it is left to be found when it is composed as a run.

    Args:
        hydra: the result of `open_hydra`.
        overrides: overrides of the command line.
        name: name of the primary configuration file.
    """
    if any(override.lstrip("+").startswith("hydra.mode=") for override in overrides):
        return any(override.lstrip("+") == "hydra.mode=MULTIRUN" for override in overrides)
    folders = [each.path for each in hydra.config_loader.get_sources() if each.provider in ("main", "command-line")]
    has_own = folders != [str(Path(str(config_directory())).resolve())]
    if not has_own and not any("hydra.searchpath" in override for override in overrides):
        return False
    try:
        composed = hydra.compose_config(name, overrides, run_mode=RunMode.MULTIRUN, validate_sweep_overrides=False)
    except (HydraException, OmegaConfBaseException, InputError):
        return False
    return composed.hydra.mode is RunMode.MULTIRUN


def help_text(hydra: Hydra, overrides: list[str], *, name: str, folders: Sequence[str]) -> str:
    """Return the text of --help: the configuration groups with their options, and the composed configuration.

    Hydra's own implementation reads all files of all groups, which takes half a second.

    Args:
        hydra: the result of `open_hydra`.
        overrides: overrides of the command line.
        name: name of the primary configuration file.
        folders: folders of configuration files.
    """
    composed = compose(hydra, overrides, name=name)
    values = OmegaConf.masked_copy(composed, [str(key) for key in composed if key != "hydra"])
    lines = []
    for group in (*GROUPS, "trainer", *NOT_OF_A_RUN, "experiment", "debug"):
        names = [each for folder in folders for each in option_names(Path(folder), group)]
        text = ", ".join(dict.fromkeys(names))
        lines.append(textwrap.fill(text, 116, initial_indent=f"  {group:<12}", subsequent_indent=" " * 14))
    template = string.Template(composed.hydra.help.template)
    return template.safe_substitute(GROUPS="\n".join(lines), CONFIG=OmegaConf.to_yaml(values))


def refuse_renamed(overrides: list[str]) -> None:
    """Check that no override has a key of the first edition.

    Raises:
        InputError: if one has; the message has the new name.
    """
    for override in overrides:
        error = renamed_key(override.lstrip("+~").partition("=")[0])
        if error is not None:
            raise error


def run_composed(hydra: Hydra, composed: Composed, name: str, run: Callable[[Path], Any]) -> Any:
    """Run a composed configuration as `Hydra.run` does, with its directory, log and callbacks.

    Args:
        hydra: the result of `open_hydra`.
        composed: the composed configuration.
        name: name of the primary configuration file.
        run: a function of the directory of the run.

    Returns:
        What `run` returns.

    Raises:
        Exception: any exception that `run` raises.
    """
    errors: list[Exception] = []

    def task(_: Any) -> Any:
        try:
            return run(Path(HydraConfig.get().runtime.output_dir))
        except Exception as error:  # raised again below, because Hydra would print a message of its own
            errors.append(error)
            return None

    callbacks = Callbacks(composed)
    callbacks.on_run_start(config=composed, config_name=name)
    context = HydraContext(config_loader=hydra.config_loader, callbacks=callbacks)
    try:
        job_return = run_job(
            hydra_context=context,
            task_function=task,
            config=composed,
            job_dir_key="hydra.run.dir",
            job_subdir_key=None,
            configure_logging=True,
        )
    except MALFORMED as error:  # never one of the task
        reason = f"{error}; {error.__cause__}" if error.__cause__ else str(error)
        raise InputError(f"`hydra` must be a configuration that a job can start with; {reason}.") from error
    callbacks.on_run_end(config=composed, config_name=name, job_return=job_return)
    if errors:
        raise errors[0]
    return job_return.return_value
