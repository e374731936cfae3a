"""Signals as a command in the foreground finds them; one in the background, as of `nohup ... &`, has some ignored."""

import contextlib
import signal
from collections.abc import Iterator

_DEFAULTS = {
    signal.SIGINT: signal.default_int_handler,
    signal.SIGTERM: signal.SIG_DFL,
    signal.SIGUSR1: signal.SIG_DFL,
}


def set_default_signals() -> None:
    """Have the signals that ask a run to stop do what they do in a new process of a terminal."""
    for number, handler in _DEFAULTS.items():
        signal.signal(number, handler)


@contextlib.contextmanager
def default_signals() -> Iterator[None]:
    """Have them do so for as long as the block lasts."""
    before = {number: signal.getsignal(number) for number in _DEFAULTS}
    set_default_signals()
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
