"""The command that extends a finished run by more epochs."""

from pathlib import Path

from lenet_jax.cli.options import parse
from lenet_jax.errors import InputError, unknown_name

_KEYS = ("trainer.max_epochs", "trainer.keep_state")


def extend(directory: Path, arguments: list[str]) -> int:
    """Go on from the last state of a finished run, as a run of its own; return the exit code."""
    options = parse("extend", arguments, switches=("--allow-changed",), values=("--directory",))
    max_epochs, keep_state = _read(options.rest)

    from lenet_jax.cli.run import show_run
    from lenet_jax.runs.extend import extend_run, prepare_extension
    from lenet_jax.runs.run import log_to
    from lenet_jax.runs.run_directory import RunDirectory
    from lenet_jax.runs.trust import read_allowed
    from lenet_jax.trackers import tracked

    path = Path(options.values.get("--directory", f"{directory}-{max_epochs}-epochs"))
    if (path / "run.json").exists():
        RunDirectory(path)  # refuses it
    extension = prepare_extension(
        read_allowed(directory, options.allowed),
        max_epochs,
        keep_state=keep_state,
        allow_changed="--allow-changed" in options.switches,
    )
    path.mkdir(parents=True, exist_ok=True)
    log_to(path)
    print(f"extends {directory} to {max_epochs} epochs in {path}")
    bits = f"not those of a run of {max_epochs} epochs from the start: {extension.differs}"
    print(bits if extension.differs else f"bit for bit as a run of {max_epochs} epochs from the start")
    return show_run(tracked(extend_run(extension, path), extension.prepared.config, path), path)


def _read(overrides: list[str]) -> tuple[int, bool | None]:
    """Return the new number of epochs, and whether the state is kept again; None: as before."""
    values = {}
    for override in overrides:
        key, equals, value = override.partition("=")
        if key not in _KEYS or not equals:
            raise unknown_name("extend", key, _KEYS)
        values[key] = value
    epochs, keep = values.get(_KEYS[0], ""), values.get(_KEYS[1])
    if not epochs.isdecimal():
        raise InputError(
            "extend: `trainer.max_epochs` must be given, the epochs of the parent included, an integer, 1 or above; "
            f"got {epochs!r}."
        )
    if keep not in (None, "true", "false"):
        raise InputError(f"extend: `trainer.keep_state` must be true or false; got {keep!r}.")
    return int(epochs), None if keep is None else keep == "true"
