"""The commands that look at what is there: verify, report, summary, data."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lenet_jax.cli.index import index
from lenet_jax.cli.options import find_own_modules, parse, weights_option
from lenet_jax.errors import InputError, unknown_name

_CONFIG_DIR = "--config-dir"  # a folder of the user's own configuration


def show_versions() -> int:
    """Print what a run would use: kernels, versions and devices."""
    import platform
    from importlib.metadata import version

    import jax

    from lenet_jax.ops.cpu import native
    from lenet_jax.runs.platforms import check_platform

    check_platform()
    print(f"lenet-jax  {version('lenet-jax')}")
    print(f"kernels    {native.describe()}")
    print(f"jax        {version('jax')}")
    print(f"jaxlib     {version('jaxlib')}")
    print(f"Python     {platform.python_version()}")
    kinds = [device.device_kind for device in jax.devices()]
    print(f"devices    {', '.join(f'{kinds.count(kind)} {kind}' for kind in dict.fromkeys(kinds))}")
    return 0


def verify(directory: Path, arguments: list[str]) -> int:
    """Run a finished run or the jobs of a sweep again; return 0 if all are the same, at least within the tolerance."""
    from lenet_jax.runs.trust import read_allowed
    from lenet_jax.sweeps.ledger import IDENTITY

    options = parse("verify", arguments, values=("--tolerance", "--jobs"))
    if options.rest:
        raise InputError(f"verify: usage: lenet-jax verify DIR [--tolerance=0.001]; got {' '.join(options.rest)}.")
    tolerance = _fraction("--tolerance", options.values.get("--tolerance", "0.001"))
    jobs = options.values.get("--jobs")
    if (directory / IDENTITY).is_file():
        return _verify_sweep(directory, jobs, tolerance, options.allowed)
    if jobs is not None:
        raise InputError(f"verify: `--jobs` is for the directory of a sweep; {directory} is none.")
    return 0 if _verify_run(read_allowed(directory, options.allowed), tolerance) else 1


def _verify_run(record: Any, tolerance: float) -> bool:
    """Verify a run, print what is found and write it beside the run; return whether it is the same."""
    from lenet_jax.report.terminal import show, verification_lines
    from lenet_jax.runs import Event
    from lenet_jax.runs.signals import outlive_readers, signals_interrupt
    from lenet_jax.runs.verify import Damage, Verification, verify_run, write_verification

    found: list[Verification] = []

    def events() -> Iterator[Event]:
        for event in verify_run(record):
            match event:
                case Damage():
                    for line in event.lines:
                        print(f"lenet-jax: {line}", file=sys.stderr)
                case Verification():
                    found.append(event)
                case _:
                    yield event

    outlive_readers()
    with signals_interrupt():
        show(events())
    for line in verification_lines(found[0], tolerance):
        print(line)
    write_verification(record, found[0], tolerance)
    return found[0].identical or found[0].within(tolerance)


def _verify_sweep(directory: Path, chosen: str | None, tolerance: float, allowed: frozenset[str]) -> int:
    """Verify the finished jobs of a sweep, or those that are chosen by their numbers; return the exit code."""
    from lenet_jax.report.sweep_page import is_gone
    from lenet_jax.runs.trust import read_allowed
    from lenet_jax.sweeps.ledger import DIVERGED, DONE, Ledger

    ledger = Ledger(directory)
    entries = {entry.number: entry for entry in ledger.known_entries()}
    numbers = list(entries)
    if chosen is not None:
        parts = [part.strip() for part in chosen.split(",")]
        if not all(part.isdecimal() and int(part) in entries for part in parts):
            raise InputError(
                f"verify: `--jobs` must be numbers of jobs, {', '.join(map(str, numbers))}, with commas between them; "
                f"got {chosen!r}."
            )
        numbers = list(dict.fromkeys(map(int, parts)))
    same: dict[int, bool] = {}
    for number in numbers:
        path = ledger.run_directory(entries[number])
        state = "gone" if is_gone(path) else entries[number].state
        if state not in (DONE, DIVERGED):
            if chosen is not None:
                raise InputError(f"verify: `--jobs` must be finished jobs; job {number} is {state}.")
            print(f"job {number} is {state}: not verified")
            continue
        print(f"job {number}: {path}")
        try:
            same[number] = _verify_run(read_allowed(path, allowed), tolerance)
        except InputError as error:  # the other jobs are verified all the same
            print(error)
            same[number] = False
    different = [str(number) for number, each in same.items() if not each]
    print(f"{len(same) - len(different)} of {len(numbers)} jobs verified" + _which(different))
    return 1 if different or not same else 0


def _which(different: list[str]) -> str:
    return f"; different or damaged: {', '.join(different)}" if different else ""


def _fraction(name: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1:
        raise InputError(f"verify: `{name}` must be a number from 0 to below 1; got {text!r}.")
    return value


def report(directory: Path, arguments: list[str]) -> int:
    """Draw a finished run, all of its layers for a test image if one is named; sum up a sweep; list a folder."""
    values = ("--format", "--image", "--layer", "--weights", "--port")
    options = parse("report", arguments, switches=("--index", "--serve"), values=values)
    if options.rest:
        raise InputError(f"report: usage: lenet-jax report DIR; got {' '.join(options.rest)}.")
    if options.switches & {"--index", "--serve"}:
        return index(directory, options)
    if "--port" in options.values:
        raise InputError("report: `--port` is where the index of a folder is served; add --serve.")

    from lenet_jax.report.formats import FORMATS
    from lenet_jax.report.page import write_report
    from lenet_jax.runs.evaluate import evaluate_run
    from lenet_jax.runs.run_directory import check_log
    from lenet_jax.runs.trust import read_allowed, refuse_links
    from lenet_jax.sweeps.ledger import IDENTITY, Ledger

    number, format = options.values.get("--image"), options.values.get("--format", "html")
    if format not in FORMATS:
        raise unknown_name("report: --format", format, FORMATS)
    if number is not None and not number.isdecimal():
        raise InputError(f"report: `--image` must be the number of a test image, 0 or above; got {number!r}.")
    if number is None and "--layer" in options.values:
        raise InputError("report: `--layer` is the layer of Grad-CAM, for a test image; name one: --image=0.")
    if (directory / IDENTITY).is_file():
        for name in options.values.keys() - {"--format"}:
            raise InputError(f"report: `{name}` is for the directory of a run; {directory} is that of a sweep.")
        refuse_links(directory)
        report_sweep(Ledger(directory), format)
        return 0
    record = read_allowed(directory, options.allowed)
    check_log(record)
    image, layer = None if number is None else int(number), options.values.get("--layer")
    evaluation = evaluate_run(record, weights=weights_option("report", options))
    print(f"report: {write_report(record, evaluation, image=image, layer=layer, format=format)}")
    return 0


def report_sweep(ledger: Any, format: str = "html") -> None:
    """Write and print the summary of a sweep, and write its report."""
    from lenet_jax.report.sweep_page import is_gone, write_page
    from lenet_jax.report.text import sweep_lines
    from lenet_jax.sweeps.ledger import DONE, JOBS
    from lenet_jax.sweeps.statistics import summarize_sweep, write_summary

    summary = summarize_sweep(ledger.entries())
    for line in sweep_lines(summary):
        print(line)
    write_summary(ledger, summary)
    for entry in summary.entries:
        path = ledger.run_directory(entry)
        if entry.state == DONE and is_gone(path):
            print(
                f"job {entry.number}: {path} is gone, its result is in the ledger; to run it again, remove "
                f"{ledger.directory / JOBS / f'{entry.number}.json'} and resume the sweep"
            )
    print(f"report: {write_page(ledger, summary, format=format)}")


def summary(arguments: list[str]) -> int:
    """Print the layers of a model, or its arrays if it records no layers."""
    import jax

    from lenet_jax import components
    from lenet_jax.config.catalogue import PACKAGE, TARGET
    from lenet_jax.hydra_app.composition import compose_config

    find_own_modules()
    options = parse("summary", arguments, values=(_CONFIG_DIR,), reads_directory=False)
    own = [a for a in options.rest if a.startswith(("input_shape=", "num_classes="))]
    values = dict(argument.split("=", 1) for argument in own)
    config_dir = options.values.get(_CONFIG_DIR)
    config = compose_config([a for a in options.rest if a not in own], config_dir=config_dir)

    from lenet_jax.interop.models import build_model
    from lenet_jax.report.text import layer_table, parameter_table
    from lenet_jax.runs.platforms import check_platform
    from lenet_jax.summary import summarize

    check_platform()
    is_built_in = config.model[TARGET].startswith(f"{PACKAGE}.")
    made_for = _MADE_FOR.get(config.model[TARGET]) if config.model.get("image_size") is None else None
    text = values.get("input_shape", made_for or "28,28,1")
    shape = _integers("input_shape", text, 3 if is_built_in else None)
    (num_classes,) = _integers("num_classes", values.get("num_classes", "10"), 1)
    if num_classes < 2 and is_built_in:
        raise InputError(f"summary: `num_classes` must be 2 or above; got {num_classes}.")
    model = build_model(config.model, shape, num_classes)
    if model.trace is None:
        with components.reporting(config.model[TARGET]):
            lines = parameter_table(jax.eval_shape(model.init, jax.random.key(0)), shape)
    else:
        lines = layer_table(summarize(model), shape)
    for line in lines:
        print(line)
    return 0


_MADE_FOR = {  # colour images of the size that a network was published for; the others are for MNIST
    "lenet_jax.models.alexnet.alexnet": "227,227,3",
    "lenet_jax.models.alexnet.zfnet": "224,224,3",
    "lenet_jax.models.googlenet.googlenet": "224,224,3",
    "lenet_jax.models.resnet.resnet": "224,224,3",
}


def _integers(name: str, text: str, length: int | None = None) -> tuple[int, ...]:
    parts = text.strip("[]()").split(",")
    if (length and len(parts) != length) or not all(part.strip().isdecimal() for part in parts):
        number = f"{length} " if length else ""
        raise InputError(f"summary: `{name}` must be {number}integers with commas between them; got {text!r}.")
    return tuple(int(part) for part in parts)


def prepare_data(name: str, arguments: list[str]) -> int:
    """Prepare one of the data sets that this package can prepare."""
    from lenet_jax.data.tfds import BUILT_IN, prepare

    if name not in BUILT_IN:
        raise unknown_name("data prepare", name, BUILT_IN)
    values = {}
    for option in arguments:
        key, separator, value = option.partition("=")
        if not separator or not value or key not in ("data.directory", "data.manual_dir"):
            raise InputError(f"data prepare: options are data.directory=DIR and data.manual_dir=DIR; got {option!r}.")
        values[key.removeprefix("data.")] = value
    print(f"{name} is prepared in {prepare(name, values.get('directory'), values.get('manual_dir'))}")
    return 0
