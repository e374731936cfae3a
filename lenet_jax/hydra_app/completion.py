"""Completion of command lines in a shell, by Hydra's plugins: `eval "$(lenet-jax completion bash)"`.

The shell calls `lenet-jax -sc query=bash` with the line so far in COMP_LINE. Hydra's plugins know no commands, so they
get the line without its command, and a configuration with all options of the components that the line names.
"""

import glob
import os
import shlex
import sys
from pathlib import Path
from typing import NoReturn

from lenet_jax.errors import InputError
from lenet_jax.hydra_app.composition import get_args_parser, open_hydra

_LINE = "COMP_LINE"
_WITH_OVERRIDES = ("train", "plan", "summary", "evaluate")  # commands that take keys and values
_WITH_DIRECTORY = ("resume", "extend", "verify", "evaluate", "predict", "export", "compare", "report", "log")
_CHOICES = {"completion": ("bash", "fish", "zsh"), "data": ("prepare",)}
_ZSH = "(( $+functions[compdef] )) || { autoload -Uz compinit && compinit; }\nautoload -Uz bashcompinit && bashcompinit"
"""What zsh needs before the script, which is bash's."""

_RECORDS = ("run.json", "sweep.json")


def complete(overrides: list[str], commands: tuple[str, ...]) -> None:
    """Print what may follow in the line of COMP_LINE, or the script that makes a shell ask for it.

    Args:
        overrides: "query=SHELL", "install=SHELL" or "uninstall=SHELL".
        commands: names of the commands.

    Raises:
        InputError: if there is no such question. A line that is wrong has no completion, and no error either, which
            would be printed into it.
    """
    if not any(override.startswith("query=") for override in overrides):
        sys.argv[0] = "lenet-jax"  # for which the script is, also if this is `python -m lenet_jax`
        if "install=zsh" in overrides:
            print(_ZSH)
        with open_hydra() as hydra:
            return _ask(hydra, "config", overrides)
    program, _, rest = os.environ.get(_LINE, "").lstrip().partition(" ")
    command, is_complete, line = rest.lstrip().partition(" ")
    if not is_complete:
        return print("\n".join(each for each in commands if each.startswith(command)))
    word = "" if line.endswith(" ") or not line else line.split()[-1]
    if command in _WITH_DIRECTORY and not word.startswith(("-", "data")):
        return print("\n".join(_directories(word)))
    if command in _CHOICES:
        return print("\n".join(each for each in _CHOICES[command] if each.startswith(word)))
    if command not in _WITH_OVERRIDES:
        return None
    try:
        line = word if command in _WITH_DIRECTORY else _unquoted(line)
        os.environ[_LINE] = f"{program} {line}"
        parser = get_args_parser()
        parser.error = _refuse
        options = parser.parse_args(line.split())
        folders = {"config_path": options.config_path, "config_dir": options.config_dir}
        with open_hydra(**folders, shows_required=True) as hydra:
            _ask(hydra, options.config_name or "config", overrides)
    except Exception:  # a shell that completes a line has no place for a message
        if os.environ.get("HYDRA_FULL_ERROR") == "1":
            raise
    return None


def _directories(word: str) -> list[str]:
    """Return the directories of runs and sweeps that begin with a word, and the folders that lead to others."""
    patterns = [f"{glob.escape(word)}*"] if word else ["*", "outputs/*/*"]
    paths = sorted({Path(each) for pattern in patterns for each in glob.glob(pattern)})  # noqa: PTH207  or absolute
    return [
        str(path) if any((path / name).is_file() for name in _RECORDS) else f"{path}/"
        for path in paths
        if path.is_dir()
    ]


def _unquoted(line: str) -> str:
    """Return a line without quotes: Hydra's plugins divide it at spaces.

    Raises:
        ValueError: if a quotation is open.
    """
    words = [word.replace(" ", "") for word in shlex.split(line)]
    return " ".join([*words, ""] if line.endswith(" ") else words)


def _ask(hydra: object, name: str, overrides: list[str]) -> None:
    try:
        hydra.shell_completion(config_name=name, overrides=overrides)  # pyright: ignore[reportAttributeAccessIssue]
    except ValueError as error:
        raise InputError(
            "`--shell-completion` must be install=SHELL, uninstall=SHELL or query=SHELL, of bash, fish or zsh; got "
            f"{' '.join(overrides) or 'nothing'}."
        ) from error


def _refuse(message: str) -> NoReturn:
    raise InputError(message)
