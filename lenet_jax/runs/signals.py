"""Signals that stop a run: the current device program finishes first, and its state is saved."""

import codecs
import contextlib
import errno
import logging
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
def interruptible() -> Iterator[Callable[[], None]]:
    """Treat each of `SIGNALS` like Ctrl-C in a block of a process that another one has started; nothing is printed.

    Yields:
        A function that interrupts the block from another thread, as such a signal does; of a block outside the main
        thread it interrupts nothing.
    """
    with _handled(_interrupt) as numbers:

        def interrupt() -> None:
            for number in numbers[-1:]:
                os.kill(os.getpid(), number)

        yield interrupt


@contextlib.contextmanager
def _handled(handler: Callable[[int, FrameType | None], None]) -> Iterator[list[int]]:
    """Handle those of `SIGNALS` that nothing else does, and yield them."""
    if threading.current_thread() is not threading.main_thread():
        yield []
        return
    replaceable = (signal.SIG_DFL, signal.default_int_handler, _interrupt)
    before = {number: signal.signal(number, handler) for number in SIGNALS if signal.getsignal(number) in replaceable}
    try:
        yield list(before)
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
    without_bar = "\x1b[?25h\r\x1b[2K" if sys.stderr.isatty() else ""  # it hides the cursor and holds the line
    with contextlib.suppress(OSError):
        os.write(2, f"{without_bar}{text}\n".encode())


class _Outlived:
    """A text file that becomes os.devnull when its reader is gone, and that spells what its encoding lacks."""

    gone = frozenset([errno.EIO])  # errors that say so: of a terminal

    def __init__(self, file: Any) -> None:
        self._file = file
        if hasattr(file, "reconfigure"):
            file.reconfigure(errors=_IN_ASCII)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def write(self, text: str) -> int:
        """Write a text, or nothing if the reader is gone."""
        return self._or_nothing(self._file.write, text)

    def flush(self) -> None:
        """Flush what was written."""
        self._or_nothing(self._file.flush)

    def _or_nothing(self, write: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return write(*arguments)
        except OSError as error:
            if error.errno not in self.gone:
                raise
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, self._file.fileno())
            os.close(null)
            return write(*arguments)


_IN_ASCII = "lenet_jax.in_ascii"
_SPELLED = {"\N{PLUS-MINUS SIGN}": "+/-", "\N{HORIZONTAL ELLIPSIS}": "..."}


def _in_ascii(error: UnicodeError) -> tuple[str | bytes, int]:
    """Spell the characters that an encoding lacks."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end]
    return "".join(_SPELLED.get(each, each.encode("ascii", "backslashreplace").decode()) for each in text), error.end


codecs.register_error(_IN_ASCII, _in_ascii)


def outlive_terminal() -> None:
    """Let this process go on when its terminal is gone, as that of a closed window: what it prints is lost.

    A stream that is closed from the start becomes os.devnull: no file of a run may get its number, and its messages.
    A log that cannot be written, as on a full disk, is no traceback for each line.
    """
    logging.raiseExceptions = False
    _Outlived.gone = frozenset([errno.EIO])
    while (null := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(null, True)
    os.close(null)
    for name in ("stdout", "stderr"):
        file = getattr(sys, name)
        if file is None:
            file = open(os.devnull, "w")  # noqa: PTH123, SIM115
        if not isinstance(file, _Outlived):
            setattr(sys, name, _Outlived(file))


def outlive_readers() -> None:
    """Let what follows in this process, a run, go on as well when what it prints is taken no more.

    The reader of a pipe, such as `head`, may have enough, and the disk of a redirected output be full.
    """
    _Outlived.gone = frozenset([errno.EIO, errno.EPIPE, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.ESTALE])
