"""The command line.

A user's mistake is one line on standard error and exit code 2; a failed run is exit code 1. `--help` and `--cfg job`
answer without importing jax, so whatever needs it is imported inside the function that runs it.
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from lenet_jax.cli.options import take_directory
from lenet_jax.environment import set_command, tune_environment
from lenet_jax.errors import InputError, unknown_name
from lenet_jax.hydra_app.error_messages import to_message
from lenet_jax.runs.signals import RESUMABLE, outlive_terminal
from lenet_jax.runs.supervision import LOST, adopt_child, is_lost, report

HELP = """\
lenet-jax: functional, reproducible training of small convolutional networks in JAX.

usage: lenet-jax COMMAND [...]

  train [KEY=VALUE ...]    train a model; without arguments, LeNet on the 5,000 embedded MNIST digits
  train -m KEY=A,B,C ...   one run for each combination of the values
  train [-m] --dry-run ... check and prepare everything, and print the jobs, the programs and the memory they need
  train debug=NAME ...     find a fault: fast (everything once), overfit (one minibatch), nan (values that are not
                           finite), profile (where the time goes); or a learning rate: lr_find
  plan [-m] [KEY=VALUE ...]
                           what a run or a sweep would cost: its programs are compiled, a few steps of each are
                           timed, nothing is written; lanes, parameters, memory, operations, and the time on 1 to N
                           devices; --devices=N, --json
  resume DIR               resume an interrupted run or sweep; --allow-changed; of a sweep: --retry-failed; of a run of
                           several processes: --distributed=auto, or --distributed.coordinator=HOST:PORT,
                           --distributed.num_processes=N, --distributed.process_id=I
  extend DIR trainer.max_epochs=N
                           go on from the last state of a finished run, up to N epochs, as a run of its own; the state
                           is kept by trainer.keep_state=true; --directory=NEW, --allow-changed
  verify DIR               check the files of a finished run, run it again and compare, bit for bit; --tolerance=0.001;
                           of a sweep: all its finished jobs, or --jobs 0,3
  train --help             the configuration: its groups, its keys, its values
  evaluate DIR [data=...]  evaluate a finished run again, on its test images or on those of other data;
                           data.split=train|validation|test, --weights=best|last, --config-dir; --tta=16: the mean of
                           the probabilities of an image and 16 augmented views of it, --seed=0; --ensemble: the mean
                           over the runs of a sweep
  predict DIR FILE ...     classify images of your own: PNG and JPEG files, folders of such, npz and npy files; they are
                           inverted, scaled and centred as the training images were; --json; --invert, --no-invert,
                           --centre, --no-centre; --weights=best|last
  export DIR --to stablehlo|onnx|safetensors|orbax
                           write the network for other programs, of any batch size, and compare its outputs with the
                           run's on the test images; --output=FILE, --batch=N, --weights=best|last
  compare DIR DIR ...      compare finished runs, or sweeps over their seeds: differences with intervals, changed keys
  report DIR               draw a finished run, or sum up a sweep: figures, and a page that needs no network, or
                           --format=pdf, svg (the figures alone);
                           --image=N: all layers for the N-th test image, and what speaks for its class: saliency,
                           Grad-CAM (--layer=NAME), occlusion; --weights=best|last; of a folder of runs and sweeps:
                           --index: a page with a row for each; --serve, --port=8000: the same in a browser here
  log DIR --to NAME        record a run or a sweep with a tracker afterwards: tensorboard, mlflow, wandb, csv or one of
                           yours; again, it adds only what is new; trackers.NAME.KEY=VALUE, --config-dir
  summary [KEY=VALUE ...]  the layers of a model: shapes, parameters, operations, memory; input_shape=H,W,C,
                           num_classes=N; --config-dir
  new NAME                 write a project of your own into the folder NAME: a package with a model and data, a
                           configuration, a test, a README with the commands
  data prepare NAME        prepare mnist, fashion_mnist, kmnist, cifar10, cifar100, svhn or emnist/SPLIT
  --version [--verbose]    the version of lenet-jax; the kernels in use, the versions of jax, jaxlib and Python, devices
  completion SHELL         a script that lets bash, zsh or fish complete commands, groups, keys, values and run
                           directories: eval "$(lenet-jax completion bash)"
  COMMAND --help           the options of a command

Commands that read a directory run code of lenet-jax only; --allow PACKAGE admits code of yours that it names, --trust
all of it.

Exit codes: 0 done, 1 a run failed, 2 bad input, 75 interrupted and resumable, 130 interrupted with nothing to resume
yet.
"""

_COMMANDS = (
    *(
        "train",
        "plan",
        "resume",
        "extend",
        "verify",
        "evaluate",
        "predict",
        "export",
        "compare",
        "report",
        "log",
        "summary",
    ),
    *("new", "data", "completion"),
)

USAGE = {
    "plan": "[-m] [KEY=VALUE ...] [--json] [--devices=N], with the keys and options of lenet-jax train",
    "resume": "DIR [--allow-changed] [--retry-failed] [hydra/launcher=NAME ...] [--distributed=auto] [--allow PACKAGE] "
    "[--trust]",
    "extend": "DIR trainer.max_epochs=N [trainer.keep_state=true] [--directory=NEW] [--allow-changed]",
    "verify": "DIR [--tolerance=0.001] [--jobs=0,3] [--allow PACKAGE] [--trust]",
    "evaluate": "DIR [data=...] [--tta=N] [--ensemble] [--allow PACKAGE] [--trust], DIR of a finished run or a sweep.",
    "predict": "DIR FILE [FILE ...] [--json] [--no-invert] [--no-centre] [--allow PACKAGE] [--trust]",
    "export": "DIR --to stablehlo|onnx|safetensors|orbax [--output=FILE] [--batch=N] [--allow PACKAGE] [--trust]",
    "compare": "DIR DIR [DIR ...], finished runs or sweeps",
    "report": "DIR [--format=html|pdf|svg] [--image=N] [--layer=NAME] [--weights=best|last] [--index] "
    "[--serve [--port=N]]",
    "log": "DIR --to NAME [trackers.NAME.KEY=VALUE ...] [--config-dir DIR]",
    "summary": "[KEY=VALUE ...] [input_shape=H,W,C] [num_classes=N] [--config-dir DIR]",
    "new": "NAME, the folder to write and the package in it",
    "data": "prepare NAME [data.directory=DIR] [data.manual_dir=DIR]",
    "completion": "bash|zsh|fish",
}
"""Command -> what follows it; `train` is explained by Hydra."""


def _help(command: str) -> str:
    """Return what `lenet-jax COMMAND --help` says: how it is called, and what the general help has of it."""
    lines = HELP.splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith(f"  {command} "))
    end = next(number for number in range(start + 1, len(lines)) if not lines[number].startswith("   "))
    return "\n".join([f"usage: lenet-jax {command} {USAGE[command]}", "", *lines[start:end]])


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code; HYDRA_FULL_ERROR=1 in the environment keeps the traceback of errors."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    # Loading a compiled program, XLA logs an error about each tuning hint that is no feature of a processor.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    adopt_child()
    tune_environment()
    set_command(["lenet-jax", *arguments])
    outlive_terminal()
    code = _exit_code(arguments)
    report(code)
    return code


def _exit_code(arguments: list[str]) -> int:
    wants_traceback = os.environ.get("HYDRA_FULL_ERROR") == "1"
    try:
        code = _dispatch(arguments)
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # the reader, such as `head`, has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for the flush at exit
        return 1
    except KeyboardInterrupt:
        print("lenet-jax: interrupted", file=sys.stderr)
        return 130
    except Exception as error:  # becomes one line if it is known; else it is raised again
        if is_lost(error):
            print(LOST, file=sys.stderr)
            return RESUMABLE
        line = to_message(error, next(iter(arguments), None))
        if line is None or wants_traceback:
            raise
        print(f"lenet-jax: {line}", file=sys.stderr)
        return 2


def _dispatch(arguments: list[str]) -> int:
    from lenet_jax.cli import inspect, run
    from lenet_jax.cli.compare import compare
    from lenet_jax.cli.evaluate import evaluate
    from lenet_jax.cli.export import export
    from lenet_jax.cli.extend import extend
    from lenet_jax.cli.log import log
    from lenet_jax.cli.new import new
    from lenet_jax.cli.plan import plan
    from lenet_jax.cli.predict import predict

    match arguments:
        case [] | ["-h" | "--help", *_]:
            print(HELP, end="")
            return 0
        case ["--version"]:
            from importlib.metadata import version

            print(f"lenet-jax {version('lenet-jax')}")
            return 0
        case ["--version", "--verbose"] | ["--verbose", "--version"]:
            return inspect.show_versions()
        case ["--version" | "--verbose", *_]:
            raise InputError(f"--version: usage: lenet-jax --version [--verbose]; got {' '.join(arguments)}.")
        case ["help", *rest]:
            return _dispatch([*rest, "--help"])
        case ["train", *overrides]:
            return run.train(overrides, _COMMANDS)
        case ["-sc" | "--shell-completion", *_]:
            return run.train(arguments, _COMMANDS)
        case ["completion", "bash" | "zsh" | "fish" as shell]:
            return run.train(["-sc", f"install={shell}"], _COMMANDS)
        case [command, *rest] if command in USAGE and {"-h", "--help"} & set(rest):
            print(_help(command))
            return 0
        case ["resume" | "extend" | "verify" | "evaluate" | "predict" | "export" | "report" | "log" as command, *rest]:
            directory, options = take_directory(rest)
            if directory is None:
                raise InputError(f"{command}: usage: lenet-jax {command} {USAGE[command]}")
            calls = {
                **{"resume": run.resume, "evaluate": evaluate, "extend": extend, "export": export},
                **{"predict": predict, "log": log},
            }
            call = calls.get(command) or getattr(inspect, command)
            return call(Path(directory), options)
        case ["plan", *overrides]:
            return plan(overrides)
        case ["compare", *directories]:
            return compare(directories)
        case ["summary", *overrides]:
            return inspect.summary(overrides)
        case ["new", name] if not name.startswith("-"):
            return new(name)
        case ["data", "prepare", name, *options]:
            return inspect.prepare_data(name, options)
        case ["new", *_]:
            raise InputError(f"new: usage: lenet-jax new {USAGE['new']}")
        case ["data", *_]:
            raise InputError(f"data: usage: lenet-jax data {USAGE['data']}")
        case ["completion", *_]:
            raise InputError(f"completion: usage: lenet-jax completion {USAGE['completion']}")
        case _:
            raise unknown_name("command", arguments[0], _COMMANDS)
