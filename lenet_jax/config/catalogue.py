"""The built-in components: their names, which are files in `conf/`, and their signatures, read without importing them.

Importing a model imports jax, which takes a second; `--help` and `--cfg job` need its options only. So the signature of
a function of this package is read from its source. A default must be a literal there, and an annotation made of the
names of `typing` and of `lenet_jax.config.checks`.
"""

import ast
import functools
import typing
from collections.abc import Mapping
from importlib import resources
from importlib.resources.abc import Traversable
from typing import Any, NamedTuple

import yaml

from lenet_jax.config import checks

PACKAGE = "lenet_jax"
TARGET = "_target_"
GROUPS = ("model", "data", "optimizer", "schedule", "augment", "objective", "trackers", "sharding")
"""The groups of `conf/` whose options are components."""

SURROUNDINGS = {
    "model": ("input_shape", "num_outputs", "rngs", "key"),
    "schedule": ("num_steps", "steps_per_epoch"),
    "trackers": ("directory",),
}
"""Group -> what a component's function receives of the run that it is in, if its signature names it."""

REQUIRED: Any = type("Required", (), {"__repr__": lambda self: "REQUIRED"})()
"""The default of a parameter that must be given."""


class Parameter(NamedTuple):
    """An option of a component."""

    default: Any  # None where its function computes it
    annotation: Any  # `typing.Any` where it is not known


class Signature(NamedTuple):
    """The options of a component; `any_name` tells that it takes others as well (`**options`)."""

    parameters: Mapping[str, Parameter]
    any_name: bool
    doc: str


def config_directory() -> Traversable:
    """Return the folder `conf`: inside the installed package, or beside it in a checkout."""
    package = resources.files(PACKAGE)
    return next(each for each in (package / "conf", package / ".." / "conf") if each.is_dir())


def option_names(folder: Traversable, group: str) -> list[str]:
    """Return the names of the files of a group in a folder of configurations; none if it has no such group."""
    group_folder = folder.joinpath(group)
    files = group_folder.iterdir() if group_folder.is_dir() else ()
    return sorted(file.name.removesuffix(".yaml") for file in files if file.name.endswith(".yaml"))


@functools.cache
def built_in(group: str) -> Mapping[str, Mapping[str, Any]]:
    """Return the options of a group of `conf/` by name, each as its file holds it."""
    folder = config_directory()
    contents = {
        name: folder.joinpath(group, f"{name}.yaml").read_text(encoding="utf-8") for name in option_names(folder, group)
    }
    return {name: yaml.safe_load(content) or {} for name, content in contents.items()}


@functools.cache
def built_in_targets() -> frozenset[str]:
    """Return the import paths of all functions that files in `conf/` name."""
    contents = [content for group in GROUPS for content in built_in(group).values()]
    parts = [part for content in contents for part in (content, *content.values()) if isinstance(part, Mapping)]
    return frozenset(part[TARGET] for part in parts if TARGET in part)


def read_signature(target: str) -> Signature | None:
    """Return the signature of a function of this package, without importing it; None if there is no such function.

    Args:
        target: its import path, as "lenet_jax.models.lenet.lenet".
    """
    module, _, name = target.rpartition(".")
    package, *parts = module.split(".")
    if package != PACKAGE or not all(part.isidentifier() for part in parts):
        return None
    return _functions(tuple(parts)).get(name)


@functools.cache
def _functions(module: tuple[str, ...]) -> Mapping[str, Signature]:
    """Return the signatures of the functions of a module of this package."""
    package = resources.files(PACKAGE)
    candidates = [package.joinpath(*module, "__init__.py")]
    if module:
        candidates.append(package.joinpath(*module[:-1], f"{module[-1]}.py"))
    source = next((each for each in candidates if each.is_file()), None)
    tree = ast.parse("" if source is None else source.read_text(encoding="utf-8"))
    return {node.name: _to_signature(node) for node in tree.body if isinstance(node, ast.FunctionDef)}


def _to_signature(function: ast.FunctionDef) -> Signature:
    arguments = function.args
    positional = [*arguments.posonlyargs, *arguments.args]
    defaults = [None] * (len(positional) - len(arguments.defaults)) + list(arguments.defaults)
    pairs = [*zip(positional, defaults, strict=True), *zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)]
    parameters = {
        argument.arg: Parameter(REQUIRED if default is None else _literal(default), _annotation(argument.annotation))
        for argument, default in pairs
    }
    return Signature(parameters, arguments.kwarg is not None, ast.get_docstring(function) or "")


def _literal(node: ast.expr) -> Any:
    try:
        return ast.literal_eval(node)
    except ValueError:  # an expression: its function knows it
        return None


_NAMES: dict[str, Any] = {
    **{name: value for name, value in vars(checks).items() if not name.startswith("_")},
    **{each.__name__: each for each in (int, float, bool, str, tuple, list)},
    "Annotated": typing.Annotated,
    "Literal": typing.Literal,
}


def _annotation(node: ast.expr | None) -> Any:
    """Return what an annotation stands for; `Any` where it is made of other names."""
    match node:
        case ast.Constant(value=None):
            return None
        case ast.Constant(value=bool() | int() | float() | str()):
            return node.value
        case ast.Constant(value=value) if value is Ellipsis:
            return Ellipsis
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as number)):
            return -number
        case ast.Name(id=name):
            return _NAMES.get(name, Any)
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            return typing.Union[_annotation(left), _annotation(right)]  # noqa: UP007  of values, not of names
        case ast.Subscript(value=value, slice=inside):
            origin = _annotation(value)
            items = inside.elts if isinstance(inside, ast.Tuple) else [inside]
            return Any if origin is Any else origin[tuple(map(_annotation, items))]
        case ast.Call(func=function, args=positional, keywords=keywords):
            named = {each.arg: _annotation(each.value) for each in keywords if each.arg is not None}
            made = _annotation(function)
            return made if made is Any else made(*map(_annotation, positional), **named)
    return Any
