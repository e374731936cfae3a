"""Killing a process before any one of its system calls, by ptrace."""

import ctypes
import os
import signal
from collections.abc import Callable

_TRACEME, _SYSCALL = 0, 24
_libc = ctypes.CDLL(None, use_errno=True)


def kill_before(action: Callable[[], object], number: int) -> bool:
    """Run an action in a child, and kill it before its system call `number`, counted from 0.

    Returns:
        Whether it was killed; else it has come to its end.

    Raises:
        OSError: if the child cannot be traced.
        RuntimeError: if the action fails.
    """
    child = os.fork()
    if child == 0:
        code = 1
        try:
            if _libc.ptrace(_TRACEME, 0, None, None) == 0:
                os.kill(os.getpid(), signal.SIGSTOP)
                action()
                code = 0
            else:
                code = 2
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    stops = 0  # two for each call: before it and after it
    while os.WIFSTOPPED(status):
        if stops == 2 * number + 1:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return True
        _libc.ptrace(_SYSCALL, child, None, None)
        _, status = os.waitpid(child, 0)
        stops += 1
    match os.waitstatus_to_exitcode(status):
        case 0:
            return False
        case 2:
            raise OSError("the child cannot be traced")
        case code:
            raise RuntimeError(f"the action failed: {code}")
