"""A run of several processes, which all end where one does: each has a child that computes, and watches over it.

JAX ends a process at once, with no code of ours running, when the process that coordinates all of them is gone; a
collective operation that waits for a process which is gone raises, or waits for ever. So the run is in a child, which
computes, and its parent returns the exit code: that of the child, or that of an interrupted run that can be resumed.
The child ends when its parent does. Signals reach the parent only, which hands the first one on.

Imports no jax.
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from types import FrameType
from typing import NoReturn

from lenet_jax.runs.signals import RESUMABLE, SIGNALS

_PATIENCE = 60.0  # seconds that a child may take to end after it has reported success
_PIPES = "_LENET_JAX_PIPES"  # environment variable with the numbers of the pipes from and to the parent
_LOST = ("Gloo", "NCCL", "Coordination", "coordination service", "heartbeat", "Connection reset", "Connection closed")


class _Child:
    """What a child knows of its parent."""

    report: int | None = None  # the pipe that takes its exit code; None: this process has no parent of ours
    is_asked_to_stop = False


def supervise(arguments: Sequence[str]) -> NoReturn:
    """Run a command of `lenet-jax` again in a child, wait for it, and exit with its code.

    Args:
        arguments: of the command.
    """
    orders, reports = os.pipe(), os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    child = subprocess.Popen(
        [sys.executable, "-m", "lenet_jax", *arguments],
        env={**os.environ, _PIPES: f"{orders[0]},{reports[1]}"},
        pass_fds=(orders[0], reports[1]),
        start_new_session=True,  # out of reach of the terminal's Ctrl-C
    )
    os.close(orders[0])
    os.close(reports[1])
    _watch(child, orders[1], reports[0])


def adopt_child() -> None:
    """Make this process the child of the one that has started it for that, if one has."""
    pipes = os.environ.pop(_PIPES, "")
    if not pipes:
        return
    orders, _Child.report = map(int, pipes.split(","))
    for each in (orders, _Child.report):
        os.set_inheritable(each, False)
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_obey, args=(orders,), daemon=True).start()


def is_supervised() -> bool:
    """Return whether this process is the child of one that watches over it."""
    return _Child.report is not None


def is_asked_to_stop() -> bool:
    """Return whether the parent of this process has received a signal."""
    return _Child.is_asked_to_stop


def report(code: int) -> None:
    """Tell the parent the exit code of the command; nothing without a parent."""
    if _Child.report is not None:
        sys.stdout.flush()
        sys.stderr.flush()
        os.write(_Child.report, bytes([code]))


def is_lost(error: BaseException) -> bool:
    """Return whether an error says that another process of the run is gone."""
    return is_supervised() and any(word in str(error) for word in _LOST)


def _obey(orders: int) -> NoReturn:
    while os.read(orders, 1):
        _Child.is_asked_to_stop = True
    os._exit(RESUMABLE)  # the parent is gone


def _watch(child: subprocess.Popen, orders: int, reports: int) -> NoReturn:
    received: list[int] = []

    def hand_on(number: int, frame: FrameType | None) -> None:
        received.append(number)
        if len(received) > 1:
            _print("lenet-jax: interrupted again; what was saved stays")
            child.kill()
            os._exit(RESUMABLE)
        _print("lenet-jax: interrupted; all processes stop after the current device program (repeat to stop now)")
        with contextlib.suppress(BrokenPipeError):
            os.write(orders, b"i")

    for number in SIGNALS:
        signal.signal(number, hand_on)
    code = os.read(reports, 1)
    if not code:
        _print(LOST)
    elif code[0] == 0:
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(_PATIENCE)  # until the others have ended as well
    child.kill()
    child.wait()
    os._exit(code[0] if code else RESUMABLE)


LOST = "lenet-jax: a process of the run has ended before its time, so all end; resume all: lenet-jax resume DIR"


def _print(text: str) -> None:
    with contextlib.suppress(OSError):
        os.write(2, f"{text}\n".encode())
