"""`lenet-jax` with a small model, that kills itself: python -m tests.sweeps.program WHEN COUNT ARGUMENT...

WHEN is `ledger` or `metrics`, COUNT how many times that is written before SIGKILL; `never` kills not at all.
"""

import itertools
import os
import signal
import sys

from lenet_jax.cli import main
from lenet_jax.models import MODELS
from lenet_jax.runs.run_directory import RunDirectory
from lenet_jax.sweeps.ledger import Ledger
from tests.linear import linear


def kill_after(owner, name, count):
    """Replace a method by one that ends the process after its call number `count`."""
    write, calls = getattr(owner, name), itertools.count(1)

    def write_and_die(self, content):
        write(self, content)
        if next(calls) == count:
            os.kill(os.getpid(), signal.SIGKILL)

    setattr(owner, name, write_and_die)


if __name__ == "__main__":
    when, count, *arguments = sys.argv[1:]
    if when != "never":
        kill_after(*{"ledger": (Ledger, "write"), "metrics": (RunDirectory, "append_metrics")}[when], int(count))
    MODELS["lenet"] = linear
    sys.exit(main(arguments))
