"""Signals that ask a run to end: the program on the device is let finish and its state is saved first."""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
RESUMABLE = 75  # exit code: interrupted, to be resumed; EX_TEMPFAIL of sysexits.h


@contextlib.contextmanager
def postponed_signals() -> Iterator[Callable[[], bool]]:
    """Let the block find out for itself that it was asked to end; asked again, it is interrupted where it is.

    Outside of the main thread, where Python delivers no signals, nothing happens; nor with a signal that somebody else
    handles, as submitit does in a job that it may queue again.

    Yields:
        A function that tells whether a signal has come.

    Raises:
        KeyboardInterrupt: at the second signal.
    """
    come: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        if come:
            raise KeyboardInterrupt
        come.append(number)

    with _handled(note):
        yield lambda: bool(come)


@contextlib.contextmanager
def signals_interrupt() -> Iterator[None]:
    """Let every signal that asks for the end do what Ctrl-C does; a second one ends the process at once.

    Python's handlers wait while the main thread waits for a device. So a thread reads what the system itself notes of
    signals, and ends the process without them.
    """
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    watcher = threading.Thread(target=_end_at_the_second, args=(reader,), daemon=True)
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
    free = (signal.SIG_DFL, signal.default_int_handler, _interrupt)
    before = {number: signal.signal(number, handler) for number in SIGNALS if signal.getsignal(number) in free}
    try:
        yield
    finally:
        for number, former in before.items():
            signal.signal(number, former)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _end_at_the_second(reader: int) -> None:
    asked = 0
    while numbers := os.read(reader, 64):
        for _ in filter(SIGNALS.__contains__, numbers):
            asked += 1
            if asked == 1:
                _say("lenet-jax: interrupted; ends after the program on the device, again: at once")
            else:
                _say("lenet-jax: interrupted again; what was saved stays")
                os._exit(RESUMABLE)


def _say(text: str) -> None:
    show_cursor = "\x1b[?25h" if sys.stderr.isatty() else ""  # a progress bar has hidden it
    with contextlib.suppress(OSError):
        os.write(2, f"{show_cursor}\r{text}\n".encode())
