"""The command that records runs with a tracker afterwards."""

import re
import sys
from pathlib import Path
from typing import Any

from lenet_jax.cli.options import find_own_modules, parse
from lenet_jax.errors import InputError, describe_error

_CONFIG_DIR = "--config-dir"


def log(directory: Path, arguments: list[str]) -> int:
    """Hand the recorded events of a run, or of the jobs of a sweep, to a tracker; return the exit code.

    Nothing that the directory names is imported, and its own trackers are not used: what they name as the place to
    send to may be anybody's.
    """
    options = parse("log", arguments, values=("--to", _CONFIG_DIR), reads_directory=False)
    to = options.values.get("--to", "")
    strange = [option for option in options.rest if not option.startswith("trackers.")]
    if not re.fullmatch(r"\w+", to) or strange:
        got = f"--to {to}" if to and not strange else " ".join(strange) or "no --to"
        raise InputError(f"log: usage: lenet-jax log DIR --to NAME [trackers.NAME.KEY=VALUE ...]; got {got}.")

    from lenet_jax.components import named_parts
    from lenet_jax.hydra_app.composition import compose_config
    from lenet_jax.runs.trust import refuse_links
    from lenet_jax.sweeps.ledger import IDENTITY
    from lenet_jax.trackers import check_installed

    find_own_modules()
    config = compose_config([f"trackers={to}", *options.rest], config_dir=options.values.get(_CONFIG_DIR))
    check_installed([config])
    nodes = named_parts("trackers", config.trackers)
    if not nodes:
        raise InputError(f"log: `--to` must be a tracker, as csv; got {to}.")
    refuse_links(directory)
    if (directory / IDENTITY).is_file():
        return _log_sweep(directory, nodes)
    return 0 if _log_run(directory, nodes, str(directory)) else 1


def _log_sweep(directory: Path, nodes: dict[str, Any]) -> int:
    from lenet_jax.runs.run_directory import RUN
    from lenet_jax.sweeps.ledger import Ledger

    ledger = Ledger(directory)
    with ledger.locked():
        logged = []
        for entry in ledger.known_entries():
            path = ledger.run_directory(entry)
            if (path / RUN).is_file():
                logged.append(_log_run(path, nodes, f"job {entry.number}"))
            else:
                print(f"job {entry.number}: has not started, or its directory is gone")
    print(f"{sum(logged)} of {len(logged)} jobs logged")
    return 0 if logged and all(logged) else 1


def _log_run(directory: Path, nodes: dict[str, Any], name: str) -> bool:
    """Log a run with each tracker; return whether they have taken it."""
    from lenet_jax.components import build
    from lenet_jax.runs.run_directory import RunDirectory, check_is_run, check_log, read_record
    from lenet_jax.trackers.replay import replay

    check_is_run(directory)
    with RunDirectory(directory, resume=True).locked():
        record = read_record(directory)
        check_log(record)
        for path, node in nodes.items():
            try:
                track = build(node, directory=str(directory))
                for event in replay(record):
                    track(event)
            except Exception as error:  # of a server, or of the user's own function
                print(f"lenet-jax: {name}: `{path}` failed: {describe_error(error)}", file=sys.stderr)
                return False
    names, end = ", ".join(path.removeprefix("trackers.") for path in nodes), "" if record.result else ", unfinished"
    print(f"{name}: {len(record.metrics)} evaluations logged to {names}{end}")
    return True
