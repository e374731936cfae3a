"""Options of the commands that Hydra does not parse."""

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from lenet_jax.config import DistributedConfig
from lenet_jax.config.checks import build
from lenet_jax.errors import InputError, unknown_name


class Options(NamedTuple):
    """What was given to a command."""

    switches: frozenset[str]
    values: dict[str, str]  # of options with a value
    allowed: frozenset[str]  # packages whose code the directory may name; "*" for all
    rest: list[str]  # what does not begin with a dash


def parse(
    command: str,
    arguments: list[str],
    *,
    switches: Iterable[str] = (),
    values: Iterable[str] = (),
    reads_directory: bool = True,
) -> Options:
    """Read the options of a command, in any order.

    Args:
        command: its name, for messages.
        arguments: those after the directory.
        switches: options without a value.
        values: options with one, as --tolerance=0.001 or --tolerance 0.001.
        reads_directory: whether the command reads a directory, and so has --allow PACKAGE and --trust.

    Raises:
        InputError: if an option is unknown, or has no value.
    """
    known = [*switches, *values, *(("--allow", "--trust") if reads_directory else ())]
    found, given, allow, rest = set(), {}, [], []
    pending = list(arguments)
    while pending:
        argument = pending.pop(0)
        name, equals, value = argument.partition("=")
        if not argument.startswith("--"):
            rest.append(argument)
        elif name not in known or (equals and name in (*switches, "--trust")):
            raise unknown_name(command, argument if name in known else name, known)
        elif name in (*values, "--allow"):
            if not equals:
                if not pending:
                    raise InputError(f"{command}: `{name}` must have a value, as {name}=VALUE; got none.")
                value = pending.pop(0)
            if name == "--allow":
                allow.append(value)
            else:
                given[name] = value
        else:
            found.add(name)
    allowed: frozenset[str] = frozenset()
    if reads_directory:
        from lenet_jax.runs.trust import allowed_packages

        allowed = allowed_packages(allow, trust="--trust" in found)
    if allowed:
        find_own_modules()
    return Options(frozenset(found - {"--trust"}), given, allowed, rest)


DISTRIBUTED = tuple(
    f"--distributed{name}" for name in ("", ".coordinator", ".num_processes", ".process_id", ".timeout")
)
"""Options that say how the processes of a run that goes on find each other, as the part `distributed` of `train`."""


def distributed_option(options: Options) -> DistributedConfig:
    """Return what the options of `DISTRIBUTED` say.

    Raises:
        InputError: if one is out of its range, or another one is missing.
    """
    texts = {name.partition(".")[2]: value for name, value in options.values.items() if name in DISTRIBUTED}
    chosen = texts.pop("", "none")
    if chosen not in ("none", "auto"):
        raise InputError(f"resume: `--distributed` must be none or auto; got {chosen!r}.")
    values = {name: int(text) if text.isdecimal() else text for name, text in texts.items()}
    config = build(DistributedConfig, "distributed", {"detect": chosen == "auto", **values})
    config.check()
    return config


_WITH_VALUE = (
    *(
        "--allow",
        "--tolerance",
        "--jobs",
        "--weights",
        "--format",
        "--port",
        "--image",
        "--layer",
        "--config-dir",
        "--directory",
    ),
    *("--to", "--output", "--batch", "--tta", "--seed"),
    *DISTRIBUTED,
)


def take_directory(arguments: list[str]) -> tuple[str | None, list[str]]:
    """Return the directory among the arguments of a command, None if there is none, and the other arguments.

    It is the first argument that is no option, no option's value and no KEY=VALUE, unless only one of the last kind
    is a folder.
    """
    places = [
        place
        for place, each in enumerate(arguments)
        if not each.startswith("-") and (place == 0 or arguments[place - 1] not in _WITH_VALUE)
    ]
    place = next((each for each in places if "=" not in arguments[each]), None)
    if place is None:
        place = next((each for each in places if Path(arguments[each]).is_dir()), None)
    if place is None:
        return None, arguments
    return arguments[place], arguments[:place] + arguments[place + 1 :]


def weights_option(command: str, options: Options) -> Any:
    """Return the value of --weights, which weights of a run are meant; None: those that are its result.

    Raises:
        InputError: if it is none.
    """
    weights = options.values.get("--weights")
    if weights not in (None, "best", "last"):
        raise InputError(f"{command}: `--weights` must be best or last; got {weights!r}.")
    return weights


def find_own_modules() -> None:
    """Let modules in the working directory be imported, after those that are installed."""
    folder = str(Path.cwd())
    if folder not in sys.path:
        sys.path.append(folder)
