"""`lenet-jax` that sends itself a signal: python -m tests.sweeps.program SIGNAL WHEN COUNT ARGUMENT...

WHEN is `ledger` or `metrics`, COUNT how many times that is written before; `never` sends none.
"""

import itertools
import os
import signal
import sys

from lenet_jax.cli import main
from lenet_jax.runs.run_directory import RunDirectory
from lenet_jax.sweeps.ledger import Ledger
from tests.default_signals import set_default_signals


def send_after(number, owner, name, count):
    """Replace a method by one that sends this process a signal after its call number `count`."""
    write, calls = getattr(owner, name), itertools.count(1)

    def write_and_send(self, content):
        write(self, content)
        if next(calls) == count:
            os.kill(os.getpid(), number)

    setattr(owner, name, write_and_send)


if __name__ == "__main__":
    name, when, count, *arguments = sys.argv[1:]
    if when != "never":
        method = {"ledger": (Ledger, "write"), "metrics": (RunDirectory, "append_metrics")}[when]
        send_after(signal.Signals[name], *method, int(count))
    set_default_signals()
    sys.exit(main(arguments))
