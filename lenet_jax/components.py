"""Components: from a function's import path and its options to what the function returns.

A component of a configuration is a mapping with the key `_target_`, the import path of a function, and that function's
keyword options. An option may be a component itself, or a list or a mapping of such; with `_partial_: true` it stands
for the function with these options, not for what it returns. The signature is the schema: `complete` checks the options
against its names, annotations and ranges and fills in its defaults, before anything is called.
"""

import contextlib
import dataclasses
import functools
import importlib
import inspect
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from lenet_jax.config import Config, renamed_key
from lenet_jax.config.catalogue import (
    GROUPS,
    PACKAGE,
    REQUIRED,
    SURROUNDINGS,
    TARGET,
    Parameter,
    Signature,
    built_in,
    built_in_targets,
    read_signature,
)
from lenet_jax.config.checks import convert
from lenet_jax.config.folds import FOLD_OPTIONS, Fold, fold_of, without_fold
from lenet_jax.errors import InputError, unknown_name
from lenet_jax.given_objects import find_given, is_given

PARTIAL = "_partial_"
_MISSING = "???"  # as OmegaConf writes a value that must be given
_PLURAL = ("augment", "trackers")  # groups of any number of components
# Modules of this package whose public functions are components, besides those that files in conf/ name.
_COMPONENT_MODULES = ("models.", "augment.", "objectives.", "optimizers.")


def is_component(value: Any) -> bool:
    """Tell whether a value of a configuration is a component."""
    return isinstance(value, Mapping) and TARGET in value


def short_name(node: Any) -> str:
    """Return the name of a component's function, without its modules."""
    name = str(node[TARGET]).rpartition(".")[2]
    return name.rpartition("_")[0] if is_given(str(node[TARGET])) else name  # without its digest


# ---- functions by their paths ---------------------------------------------------------------------------------------


@contextlib.contextmanager
def reporting(origin: str) -> Iterator[None]:
    """Turn what a component's code raises into one line that begins with its `origin`.

    Raises:
        InputError: in place of any other exception; one is passed on.
    """
    try:
        yield
    except InputError:
        raise
    except OSError as error:
        if error.filename is None or error.strerror is None:
            raise _raised(origin, error) from error
        raise InputError(
            f"{origin}: {os.fsdecode(error.filename)} cannot be used ({error.strerror}); check its name and its "
            "permissions."
        ) from error
    except (Exception, SystemExit) as error:
        raise _raised(origin, error) from error


def _raised(origin: str, error: BaseException) -> InputError:
    first = next(iter(str(error).splitlines()), "").rstrip(".")
    return InputError(
        f"{origin}: raised {type(error).__name__}: {first}; HYDRA_FULL_ERROR=1 in the environment shows where."
    )


def locate(target: str) -> Callable[..., Any]:
    """Import what a path names: a function, or a class.

    Args:
        target: as "package.module.function".

    Raises:
        InputError: if there is none of that name.
    """
    given = find_given(target) if isinstance(target, str) else None
    if given is not None:
        return given
    if isinstance(target, str) and is_given(target):
        raise InputError(
            f"`{TARGET}` {target}: is an object of a Python session, which no import leads to; go on from Python, with "
            "lj.run or lj.sweep, the same objects, the directory and resume=True."
        )
    parts = target.split(".") if isinstance(target, str) else []
    if len(parts) < 2 or not all(part.isidentifier() for part in parts):
        raise InputError(f"`{TARGET}` must be like package.module.function; got {target!r}.")
    for cut in range(len(parts) - 1, 0, -1):
        name = ".".join(parts[:cut])
        try:
            found: Any = _import(name, target)
        except ModuleNotFoundError as error:
            if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
                continue
            raise InputError(f"`{TARGET}` {target}: cannot be imported: {error}.") from error
        for attribute in parts[cut:]:
            if not hasattr(found, attribute):
                raise InputError(f"`{TARGET}` {target}: {_missing(found, name, attribute)}")
            found = getattr(found, attribute)
        if not callable(found):
            raise InputError(f"`{TARGET}` must name a function or a class; got {target}, which is none.")
        return found
    raise InputError(
        f"`{TARGET}` {target}: there is no module {parts[0]!r}; install it, or put it into the working directory or on "
        "PYTHONPATH."
    )


def _import(name: str, target: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        raise
    except (Exception, SystemExit):
        with reporting(f"`{TARGET}` {target}: importing {name}"):
            raise


def _missing(module: Any, name: str, attribute: str) -> str:
    """Return what a module lacks, and the functions and classes that it defines, nearest first."""
    public = {each: value for each, value in vars(module).items() if callable(value) and not each.startswith("_")}
    own = [each for each, value in public.items() if getattr(value, "__module__", None) == name]
    if not public:
        return f"{name} has no {attribute!r}, nor any other function."
    return str(unknown_name(name, attribute, own or public))


@functools.cache
def signature(target: str) -> Signature:
    """Return the options of a function by its path; one of this package is not imported for that.

    Raises:
        InputError: as `locate`.
    """
    known = read_signature(target)
    if known is not None:
        return known
    function = locate(target)
    try:
        found = call_parameters(function)
    except (TypeError, ValueError):
        return Signature({}, True, "")
    parameters = {
        name: Parameter(REQUIRED if each.default is each.empty else each.default, _annotation(each))
        for name, each in found.items()
        if each.kind in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY)
    }
    any_name = any(each.kind is each.VAR_KEYWORD for each in found.values())
    return Signature(parameters, any_name, inspect.getdoc(function) or "")


def call_parameters(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """Return the parameters of a function, or those that a class is made with, without those that flax adds.

    Raises:
        ValueError: if it has no signature, as some functions that are written in C.
    """
    if isinstance(function, functools.partial):
        rest = list(call_parameters(function.func).items())[len(function.args) :]
        return {name: each for name, each in rest if name not in function.keywords}
    found = _inspect(function)
    is_class = inspect.isclass(function)
    if is_class and all(each.kind in (each.VAR_POSITIONAL, each.VAR_KEYWORD) for each in found.values()):
        found = dict(list(_inspect(function.__init__).items())[1:])  # the metaclass of NNX hides it
    linen = sys.modules.get("flax.linen")
    if is_class and linen is not None and issubclass(function, linen.Module):
        found = {name: each for name, each in found.items() if name not in ("parent", "name")}
    return found


def _inspect(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    with contextlib.suppress(NameError, TypeError, AttributeError):  # of names that are known to type checkers only
        return dict(inspect.signature(function, eval_str=True).parameters)
    return dict(inspect.signature(function).parameters)


def _annotation(parameter: inspect.Parameter) -> Any:
    found = parameter.annotation
    return Any if found is parameter.empty or isinstance(found, str) else found


# ---- checked options ------------------------------------------------------------------------------------------------


def complete(path: str, node: Mapping[str, Any], surroundings: Sequence[str] = ()) -> dict[str, Any]:
    """Check the options of a component, and fill in the defaults of its function.

    Args:
        path: of the component in the configuration, for messages.
        node: the component.
        surroundings: names of arguments that the run supplies; they are no options.

    Raises:
        InputError: if there is no such function, or an option is unknown, missing or out of its range.
    """
    target = node[TARGET]
    known = signature(target)
    names = [name for name in known.parameters if name not in surroundings]
    added = FOLD_OPTIONS if path == "data" and not FOLD_OPTIONS.keys() & known.parameters.keys() else {}
    for name in node:
        if name not in (TARGET, PARTIAL, *names, *added) and (name in surroundings or not known.any_name):
            raise renamed_key(f"{path}.{name}") or unknown_name(path, name, [*names, *added])
    if added:
        fold_of(node)
    completed = {TARGET: target}
    for name in dict.fromkeys([*names, *node]):
        full_name = f"{path}.{name}"
        parameter = known.parameters.get(name, Parameter(None, Any))
        if name == TARGET:
            continue
        if name in node and not _is_default(node[name], parameter):
            completed[name] = _complete_value(full_name, parameter.annotation, node[name])
        elif name not in node and node.get(PARTIAL):
            continue
        elif parameter.default is REQUIRED:
            raise InputError(f"`{full_name}` must be given: {target} has no default for it.")
        elif _is_plain(parameter.default):
            completed[name] = _converted_default(parameter)
    return completed


def _is_default(value: Any, parameter: Parameter) -> bool:
    return type(value) is type(parameter.default) and _is_plain(value) and value == parameter.default


def _converted_default(parameter: Parameter) -> Any:
    """Return a default in the type of its annotation, if it fits: `size: int = None` has one that does not."""
    try:
        return convert("default", parameter.annotation, parameter.default)
    except InputError:
        return parameter.default


def _complete_value(path: str, annotation: Any, value: Any) -> Any:
    if is_component(value):
        return complete(path, value)
    if not _holds_component(value):
        return convert(path, annotation, value)
    if isinstance(value, Mapping):
        return {name: _complete_value(f"{path}.{name}", Any, each) for name, each in value.items()}
    return [_complete_value(f"{path}[{number}]", Any, each) for number, each in enumerate(value)]


def _holds_component(value: Any) -> bool:
    """Tell whether a value is a component, or a list or a mapping with one somewhere in it."""
    parts = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ()
    return is_component(value) or any(map(_holds_component, parts))


def _is_plain(value: Any) -> bool:
    """Tell whether a value can be written in a configuration."""
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, bool | int | float | str)


def named_parts(group: str, node: Any) -> dict[str, Mapping[str, Any]]:
    """Return the components of a group by their path: `augment` and `trackers` may have several, or none.

    Raises:
        InputError: if it is something else.
    """
    if node is None:
        return {}
    if is_component(node):
        return {group: node}
    if isinstance(node, Mapping):
        parts = {f"{group}.{name}": each for name, each in node.items() if each is not None}
    elif isinstance(node, list | tuple):
        parts = {f"{group}[{number}]": each for number, each in enumerate(node)}
    else:
        parts = {group: node}
    for path, each in parts.items():
        if not is_component(each):
            raise InputError(
                f"`{path}` must name its function, as {path}.{TARGET}=package.module.function; got {each!r}."
            )
    return parts


def complete_group(group: str, node: Any) -> Any:
    """Return a group of the configuration with all of its components complete; see `complete`."""
    if group in _PLURAL and not is_component(node):
        surroundings = SURROUNDINGS.get(group, ())
        parts = {path: complete(path, each, surroundings) for path, each in named_parts(group, node).items()}
        if isinstance(node, Mapping):
            return {path.removeprefix(f"{group}."): each for path, each in parts.items()}
        return list(parts.values()) if node else {}
    (path, component), *_ = named_parts(group, node).items()
    return complete(path, component, SURROUNDINGS.get(group, ()))


def complete_config(config: Config) -> Config:
    """Return a configuration with all of its components complete.

    Raises:
        InputError: as `complete`.
    """
    return dataclasses.replace(config, **{group: complete_group(group, getattr(config, group)) for group in GROUPS})


def complete_like(recorded: Config, config: Config) -> Config:
    """Return a recorded configuration with the options that it lacks, if it names the same functions as another.

    Those of the other, which is complete, are imported already; of a record that names others nothing is imported, and
    it is returned unchanged.
    """
    if list(targets(recorded)) != list(targets(config)):
        return recorded
    try:
        return complete_config(recorded)
    except InputError:  # an option that the function has no more
        return recorded


def with_defaults(group: str, node: Any, *, shows_required: bool = False) -> Any:
    """Return a group of the configuration with the defaults of its components filled in, and nothing checked.

    Values may be interpolations of Hydra's, as "${seed}".

    Args:
        group: its name.
        node: what it holds.
        shows_required: whether options that must be given have the default "???".

    Raises:
        InputError: if a function that is named does not exist.
    """
    if is_component(node):
        target = str(node[TARGET])
        if "${" in target or node.get(PARTIAL):
            return node
        known, surroundings = signature(target).parameters, SURROUNDINGS.get(group, ())
        shown = {name: _MISSING if each.default is REQUIRED else each.default for name, each in known.items()}
        defaults = {
            name: list(default) if isinstance(default, tuple) else default
            for name, default in shown.items()
            if name not in surroundings and _is_plain(default) and (shows_required or default is not _MISSING)
        }
        return {TARGET: target, **{name: node.get(name, default) for name, default in defaults.items()}, **node}
    if group in _PLURAL and isinstance(node, Mapping):
        return {name: with_defaults(group, each, shows_required=shows_required) for name, each in node.items()}
    if group in _PLURAL and isinstance(node, list | tuple):
        return [with_defaults(group, each, shows_required=shows_required) for each in node]
    return node


def split_fold(node: Mapping[str, Any]) -> tuple[Mapping[str, Any], Fold | None]:
    """Return the data of a configuration, complete, without their fold, and the fold.

    A function that has the options `folds` or `fold` itself divides its data itself.
    """
    if FOLD_OPTIONS.keys() & signature(node[TARGET]).parameters.keys():
        return node, None
    return without_fold(node), fold_of(node)


# ---- built ----------------------------------------------------------------------------------------------------------


def build(node: Mapping[str, Any], **surroundings: Any) -> Any:
    """Call the function of a component, which is complete, with its options.

    Args:
        node: the component.
        **surroundings: arguments that it receives if its signature names them.

    Raises:
        InputError: as its function does.
    """
    function, options = function_and_options(node)
    if node.get(PARTIAL):
        return functools.partial(function, **options)
    known = signature(node[TARGET]).parameters
    supplied = {name: value for name, value in surroundings.items() if name in known}
    with reporting(node[TARGET]):
        return function(**options, **supplied)


def function_and_options(node: Mapping[str, Any]) -> tuple[Callable[..., Any], dict[str, Any]]:
    """Return the function of a component, and its options with the components among them built."""
    options = {name: _build_value(value) for name, value in node.items() if name not in (TARGET, PARTIAL)}
    return locate(node[TARGET]), options


def _build_value(value: Any) -> Any:
    if is_component(value):
        return build(value)
    if not _holds_component(value):
        return value
    if isinstance(value, Mapping):
        return {name: _build_value(each) for name, each in value.items()}
    return [_build_value(each) for each in value]


def built_in_component(group: str, name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return a built-in component by the name of its file in `conf/`, complete with the options given.

    Raises:
        InputError: if the name or an option is unknown, or an option is out of its range.
    """
    names = built_in(group)
    if name not in names:
        raise unknown_name(group, name, names)
    return complete(group, {**names[name], **options}, SURROUNDINGS.get(group, ()))


# ---- trust ----------------------------------------------------------------------------------------------------------


def targets(config: Config) -> Iterator[tuple[str, str]]:
    """Yield the place and the import path of every function that a configuration names."""
    for group in GROUPS:
        yield from targets_in(group, getattr(config, group))


def targets_in(path: str, value: Any) -> Iterator[tuple[str, str]]:
    """Yield the same for a part of a configuration, which is at `path`."""
    if isinstance(value, Mapping):
        for key, each in value.items():
            if key == TARGET:
                yield path, str(each)
            else:
                yield from targets_in(f"{path}.{key}", each)
    elif isinstance(value, list | tuple):
        for number, each in enumerate(value):
            yield from targets_in(f"{path}[{number}]", each)


def check_allowed(found: Iterable[tuple[str, str]], allowed: Iterable[str], origin: str) -> None:
    """Check that a configuration which was read from a directory names no code but what the user has allowed.

    Nothing is imported for that.

    Args:
        found: as `targets` yields them.
        allowed: names of packages; "*" for all.
        origin: where they were read from, for the message.

    Raises:
        InputError: for the first function of another package.
    """
    allowed = set(allowed)
    for path, target in found:
        package = target.partition(".")[0]
        if "*" in allowed or find_given(target) or (package != PACKAGE and package in allowed):
            continue
        if _is_own_component(target):
            continue
        shown = repr(target[:100])
        if is_given(target):
            raise InputError(
                f"`{path}` of {origin} is an object of a Python session, {shown}, which no import leads to; go on from "
                "Python, with lj.run or lj.sweep, the same objects, this directory and resume=True."
            )
        if package == PACKAGE or not package.isidentifier():
            raise InputError(f"`{path}` of {origin} must name a component; got {shown}; if it is yours, use --trust.")
        raise InputError(
            f"`{path}` of {origin} names code to run, {shown}; if you know it, allow its package: --allow {package} on "
            f'this command, LENET_JAX_ALLOW={package}, or allow = ["{package}"] under [tool.lenet_jax] of your '
            "pyproject.toml."
        )


def _is_own_component(target: str) -> bool:
    if target in built_in_targets():
        return True
    module = target.removeprefix(f"{PACKAGE}.")
    is_public = not any(part.startswith("_") for part in target.split("."))
    return is_public and module.startswith(_COMPONENT_MODULES) and read_signature(target) is not None
