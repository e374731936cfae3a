"""The files of the group `debug` that ask for something other than a run."""

from typing import Any

from lenet_jax.errors import InputError

MODES = ("overfit", "nan", "profile", "lr_find")


def debug_mode(composed: Any) -> str | None:
    """Return which of `MODES` a composed configuration asks for; None: a run."""
    chosen = composed.hydra.runtime.choices.get("debug")
    return chosen if chosen in MODES else None


def refuse_mode(composed: Any, wanted: str) -> None:
    """Check that a composed configuration asks for a run.

    Args:
        composed: the composition.
        wanted: what the mode needs, for the message.

    Raises:
        InputError: if it does not.
    """
    mode = debug_mode(composed)
    if mode is not None:
        raise InputError(f"`debug` must be none or fast here: {mode} needs {wanted}.")
