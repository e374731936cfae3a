"""The exception for bad input, and the wording of its messages."""

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """A value from outside breaks a rule: a bad argument, configuration value or file.

    The message is one line: the argument, the rule, the value received and the remedy. The command line prints it
    without a traceback and exits with code 2.
    """


def unknown_name(argument: str, name: object, valid: Iterable[str]) -> InputError:
    """Return the error for an unknown name; its message lists the valid names, the most similar ones first.

    Args:
        argument: the argument, option or table in which the name was looked up.
        name: the unknown name.
        valid: the valid names.

    >>> str(unknown_name("model", "lenett", ["mnist_cnn", "lenet"]))
    "`model` has no 'lenett'; choose one of: lenet, mnist_cnn."
    """
    names = sorted(valid)
    if not names:
        return InputError(f"`{argument}` has no {str(name)!r}; it is empty, remove it.")
    nearest = difflib.get_close_matches(str(name), names, n=len(names), cutoff=0.6)
    ordered = nearest + [n for n in names if n not in nearest]
    return InputError(f"`{argument}` has no {str(name)!r}; choose one of: {', '.join(ordered)}.")


def describe_error(error: Exception) -> str:
    """Return an error's message as one line; the type is named unless it is an `InputError`."""
    first = next(iter(str(error).splitlines()), "")
    if isinstance(error, InputError):
        return first
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return f"{type(error).__name__}: {first}"
