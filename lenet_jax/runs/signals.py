"""Signals that stop a run: the current device program finishes first, and its state is saved."""

import contextlib
import errno
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)
RESUMABLE = 75  # exit code of an interrupted run that can be resumed; EX_TEMPFAIL in sysexits.h


@contextlib.contextmanager
def postponed_signals() -> Iterator[Callable[[], bool]]:
    """Record the first signal for the block to check; the second signal interrupts the block at once.

    This has no effect outside the main thread, because Python delivers signals to the main thread only. Signals that
    other code handles keep their handlers; submitit has one in a job that it may requeue.

    Yields:
        A function that returns whether a signal was received.

    Raises:
        KeyboardInterrupt: at the second signal.
    """
    received: list[int] = []

    def record(number: int, frame: FrameType | None) -> None:
        if received:
            raise KeyboardInterrupt
        received.append(number)

    with _handled(record):
        yield lambda: bool(received)


@contextlib.contextmanager
def signals_interrupt() -> Iterator[None]:
    """Treat each of `SIGNALS` like Ctrl-C in the block; a second signal exits the process at once.

    Python runs no signal handler while the main thread waits for a device. Therefore a thread reads the signal numbers
    from Python's wakeup file descriptor, and exits the process without a handler.
    """
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    watcher = threading.Thread(target=_exit_at_second_signal, args=(reader,), daemon=True)
    watcher.start()
    before = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    try:
        with _handled(_interrupt):
            yield
    finally:
        signal.set_wakeup_fd(before)
        os.close(writer)
        watcher.join()
        os.close(reader)


@contextlib.contextmanager
def _handled(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    replaceable = (signal.SIG_DFL, signal.default_int_handler, _interrupt)
    before = {number: signal.signal(number, handler) for number in SIGNALS if signal.getsignal(number) in replaceable}
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _exit_at_second_signal(reader: int) -> None:
    received = 0
    while numbers := os.read(reader, 64):
        for _ in filter(SIGNALS.__contains__, numbers):
            received += 1
            if received == 1:
                _print("lenet-jax: interrupted; stopping after the current device program (repeat to stop now)")
            else:
                _print("lenet-jax: interrupted again; what was saved stays")
                os._exit(RESUMABLE)


def _print(text: str) -> None:
    show_cursor = "\x1b[?25h" if sys.stderr.isatty() else ""  # a progress bar hides the cursor
    with contextlib.suppress(OSError):
        os.write(2, f"{show_cursor}\r{text}\n".encode())


class _Outlived:
    """A text file that becomes os.devnull when its terminal is gone."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def write(self, text: str) -> int:
        """Write a text, or nothing if the terminal is gone."""
        return self._or_nothing(self._file.write, text)

    def flush(self) -> None:
        """Flush what was written."""
        self._or_nothing(self._file.flush)

    def _or_nothing(self, write: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return write(*arguments)
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, self._file.fileno())
            os.close(null)
            return write(*arguments)


def outlive_terminal() -> None:
    """Let this process go on when its terminal is gone, as that of a closed window: what it prints is lost."""
    for name in ("stdout", "stderr"):
        file = getattr(sys, name)
        if file is not None and not isinstance(file, _Outlived) and file.isatty():
            setattr(sys, name, _Outlived(file))
