import errno
import json
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import zipfile
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest

from lenet_jax.cli import main
from lenet_jax.cli.new import FILES
from lenet_jax.cli.options import parse, take_directory
from lenet_jax.config.first_edition import RENAMED
from lenet_jax.data.embedded import read_embedded
from lenet_jax.ops.cpu import native
from tests.conftest import ROOT

TINY = ["trainer.max_epochs=1", "data.train_size=200", "model.num_kernels=[2,3]", "model.hidden_units=10"]


pytestmark = pytest.mark.usefixtures("in_an_empty_folder")


def lenet_jax(*arguments, **environment):
    return subprocess.run(
        [sys.executable, "-m", "lenet_jax", *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        check=False,
    )


def refuse(capsys, *arguments):
    """Run a command that must be refused; return what it says after "lenet-jax: "."""
    code = main(arguments)
    out, err = capsys.readouterr()
    assert code == 2
    assert out == ""
    assert err.startswith("lenet-jax: ")
    assert err.count("\n") == 1
    assert err.endswith("\n")
    return err.removeprefix("lenet-jax: ").rstrip("\n")


UNKNOWN = [
    (
        "model=lenett",
        "`model` has no 'lenett'; choose one of: lenet, lenet5, alexnet, googlenet, "
        "mnist_cnn, patch_units, resnet101, resnet152, resnet18, resnet34, resnet50, window_classifier, zfnet.",
    ),
    (
        "model=cnn",
        "`model` has no 'cnn'; choose one of: alexnet, googlenet, lenet, lenet5, "
        "mnist_cnn, patch_units, resnet101, resnet152, resnet18, resnet34, resnet50, window_classifier, zfnet.",
    ),
    (
        "optimizer=adamm",
        "`optimizer` has no 'adamm'; choose one of: adam, adamw, by_path, conjugate_gradient, momentum, nesterov, "
        "rmsprop, scaled_conjugate_gradient, sgd.",
    ),
    ("schedule=cosin", "`schedule` has no 'cosin'; choose one of: cosine, constant, exponential, plateau, step."),
    (
        "data=mnst",
        "`data` has no 'mnst'; choose one of: mnist, kmnist, emnist, cifar10, cifar100, embedded, fashion_mnist, "
        "folder, huggingface, idx, imagenet, npz, pickle_archive, sources, svhn, synthetic, tfds.",
    ),
    (
        "optimizer.learning_rat=0.1",
        "`optimizer` has no 'learning_rat'; choose one of: learning_rate, momentum, nesterov, weight_decay.",
    ),
    (
        "+optimizer.learning_rat=0.1",
        "`optimizer` has no 'learning_rat'; choose one of: learning_rate, momentum, nesterov, weight_decay.",
    ),
    (
        "objective=regresion",
        "`objective` has no 'regresion'; choose one of: regression, classification, dense_classification, multi_label.",
    ),
    (
        "trackers=tensorbord",
        "`trackers` has no 'tensorbord'; choose one of: tensorboard, csv, mlflow, none, wandb.",
    ),
    ("trackers=[csv,mlflo]", "`trackers` has no 'mlflo'; choose one of: mlflow, csv, none, tensorboard, wandb."),
    ("sweep.max_paralel=2", "`sweep` has no 'max_paralel'; choose one of: max_parallel, on_failure, strategy."),
    (
        "trainer.early_stopping.patince=1",
        "`trainer.early_stopping` has no 'patince'; "
        "choose one of: patience, enabled, improvement_threshold, min_delta, patience_increase.",
    ),
    ("hydra.run.dri=a", "`hydra.run` has no 'dri'; choose one of: dir."),
    (
        "+extra.key=1",
        "`configuration` has no 'extra'; choose one of: "
        "augment, data, init, init_exclude, init_include, model, notes, objective, optimizer, schedule, seed, "
        "sharding, tags, trackers, trainer.",
    ),
]

VALUES = [
    ("data.name=cifar10", "`data.name` must be one of mnist_5k, mnist; got 'cifar10'."),
    ("optimizer.learning_rate=0", "`optimizer.learning_rate` must be a finite number above 0; got 0."),
    ("optimizer.learning_rate=-0.1", "`optimizer.learning_rate` must be a finite number above 0; got -0.1."),
    ("optimizer.learning_rate=nan", "`optimizer.learning_rate` must be a finite number above 0; got nan."),
    ("optimizer.learning_rate=inf", "`optimizer.learning_rate` must be a finite number above 0; got inf."),
    (
        "model.num_kernels=[2,3,4]",
        "`model.num_kernels` must be a list of two integers, each 1 or above; got (2, 3, 4).",
    ),
    ("trainer.batch_size=5000", "`trainer.batch_size` must be at most the size of the training set, 4000; got 5000."),
    ("data.train_size=5000", "`data.train_size` must be at most the number of training examples, 4000; got 5000."),
    (
        "trainer.early_stopping.patience=10000000000",
        "`trainer.early_stopping.patience` must be an integer from 1 to 2147483647; got 10000000000.",
    ),
    ("data=idx", "`data.directory` must be a folder of IDX files; got null."),
    (
        "seed=three",
        "`seed` must have the type of its default: Value 'three' of type 'str' could not be converted to Integer.",
    ),
    (
        "trainer.batch_size=1.5",
        "`trainer.batch_size` must be null or an integer, 1 or above; got 1.5.",
    ),
    (
        "optimizer=scaled_conjugate_gradient",
        "`trainer.batch_size` must be null, the whole training set, for scaled_conjugate_gradient; got 50.",
    ),
    (
        "model._target_=builtins.dict",
        "`model` must return a lj.Model, a Layer of lenet_jax.layers, a flax Linen module, a flax NNX module (made by "
        "a class or function with an argument `rngs`), an Equinox module (made by one with an argument `key`), or a "
        "pair of functions (init, apply); builtins.dict returns a dict.",
    ),
    (
        "augment=alexnet",
        "`augment.lighting` must be 0 for images that have not 3 channels; got 0.1 and an image of shape (28, 28, 1).",
    ),
    (
        "augment=[affine,{_target_: lenet_jax.augment.random_lighting}]",
        "`augment[1]`: random_lighting: `images` must have 3 channels; got shape (28, 28, 1); leave the lighting out.",
    ),
    ("data._target_=builtins.dict", "`data` must return a Dataset; builtins.dict returns a dict."),
    ("objective._target_=builtins.dict", "`objective` must return an Objective; builtins.dict returns a dict."),
    ("seed=???", "`seed` must be given: Missing mandatory value: seed."),
    ("seed=${sead}", "`seed` must refer to a value: Interpolation key 'sead' not found."),
    ("hydra.run.dir=${sead}", "`hydra.run.dir` must refer to a value: Interpolation key 'sead' not found."),
]


@pytest.mark.parametrize(("override", "message"), UNKNOWN + VALUES)
def test_a_bad_override_is_one_line_and_leaves_nothing_behind(override, message, capsys, tmp_path):
    assert refuse(capsys, "train", override) == message
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("old", "new"), sorted(RENAMED.items()))
@pytest.mark.parametrize("arguments", [[], ["-m"], ["--cfg", "job"]])
def test_a_key_of_the_first_edition_is_refused_with_its_new_name(old, new, arguments, capsys, tmp_path):
    for prefix in ("", "+", "++"):
        message = refuse(capsys, "train", *arguments, f"{prefix}{old}=1")
        assert message == f"`{old}` is called `{new}` now; use that."
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("overrides", "beginning", "end"),
    [
        (["experiment=nope"], "`experiment` has no 'nope'; choose one of: ", "."),
        (["sead=3"], "`configuration` has no 'sead'; choose one of: seed, ", "."),
        (["model.kernel_size=30"], "layer `conv1` does not fit an input of shape (28, 28, 1): ", "."),
        (["foo"], "an override must be KEY=VALUE, without spaces around the =; got foo.", ""),
        (["seed=[1"], "`seed` must be a value in Hydra's grammar; got [1; close each bracket, ", "."),
        (["=3"], "=3: Config group override must be a string or a list.", ""),
        (["seed=1,2"], "Ambiguous value for argument 'seed=1,2'; ", "add --multirun to your command line"),
        (["-m", "seed=1,-2"], "`seed` must be an integer from 0 to 4294967295; got -2", "."),
        (["-m", "seed=range(0,"], "`seed` must be a value in Hydra's grammar; got range(0,; ", "."),
        (["lr=0.1"], "`configuration` has no 'lr'; choose one of: ", "trainer. There is optimizer.learning_rate."),
        (["batch_size=9"], "`configuration` has no 'batch_size'; ", "trainer. There is trainer.batch_size."),
        (["optimizer=null"], "`optimizer` has no 'null'; choose one of: adam, ", "sgd."),
        (["augment=false"], "`augment` has no 'false'; choose one of: affine, ", "photo."),
        (["sweep=null"], "`sweep` has no 'null'; choose one of: default.", ""),
        (["trainer=5"], "`trainer` has no '5'; choose one of: default", "."),
        (["-m", "hydra/launcher=null"], "`hydra/launcher` has no 'null'; choose one of: ", "submitit_slurm."),
        (["+optimizer=adam"], "`optimizer` must be chosen once; ", "in a file 'override /optimizer: adam'."),
        (["~trainer.early_stopping"], "`trainer.early_stopping` must not be removed; set it, ", "."),
        (["trainer.early_stopping=false"], "`trainer.early_stopping` must be a group of keys; got False; ", "."),
        (["seed=range(0,3)"], "`seed` must be one value; got range(0,3); to sweep over it, add -m.", ""),
        (["-m", "hydra.job.name=a,b"], "`hydra.job.name` must be the same for all jobs of a sweep; got a,b; ", "each."),
        (["-m", "+hydra.sweeper.params.seed=0,1"], "`hydra.sweeper.params.seed` must ", "write seed=0,1 in its place."),
        (["-m", "seed=[0,1]"], "`seed` must have the type of its default: ", "several values: -m 'seed=0,1'."),
        (["seed=[]"], "`seed` must have the type of its default: ", "could not be converted to Integer."),
        (["-m", "seed=0:5"], "`seed` must have the type of its default: ", "several values: -m 'seed=range(0,5)'."),
        (["optimizer.learning_rate=[0.1,1]"], "`optimizer.learning_rate` must be a finite number above 0; ", "=0.1,1."),
        (["-m", "model=glob(*)", "seed=-2"], "`seed` must be an integer from 0 to 4294967295; got -2", "."),
        (["-m", "optimizer=sgd,foo"], "`optimizer` has no 'foo'; choose one of: adam, ", "."),
        (["-m", "seed=interval(0,1)"], "`seed` must be swept over a list or a range in a grid; got interval(0,1)", "."),
        (["-m", "seed=range(0)"], "the sweep must have a job; ", "."),
        (["-m", "seed=1,2,1"], "the jobs of a sweep must differ; 0 and 2 are the same: ", "seed=1."),
        (["-m", "sweep.strategy=pmap"], "`sweep.strategy` must be one of auto, map, devices, vmap; got 'pmap'", "."),
        (["-m", "seed=1,2", "hydra.sweep.dir=a", "hydra.sweep.subdir=b"], "`hydra.sweep.subdir` must ", " in it."),
        (["-m", "seed=1", "hydra.sweep.subdir=venv/${seed}"], "`hydra.sweep.subdir` must not begin with venv, ", "}."),
        (["--experimental-rerun", "a.pickle"], "`--experimental-rerun` must not be used: it loads a pickle; ", "."),
        (["--bogus"], "train: unrecognized arguments: --bogus; ", "see lenet-jax train --help."),
        (["--seed=3"], "train: unrecognized arguments: --seed=3; a key has no dashes: seed=3; see ", "train --help."),
        (["--cfg", "bogus"], "train: argument --cfg/-c: invalid choice: 'bogus'", "see lenet-jax train --help."),
        (["data=idx", "data.directory=nowhere"], "`data.directory` nowhere must hold train-images-idx3-ubyte, ", "."),
        (["augment=affine", "augment.scale=1"], "random_affine: `scale` must be 0 or above and below 1; got 1.0", "."),
        (["hydra.run.dir=" + 300 * "a"], 300 * "a", ": is too long a name; choose a shorter one."),
    ],
)  # fmt: skip
def test_bad_arguments_are_one_line_and_leave_nothing_behind(overrides, beginning, end, capsys, tmp_path):
    message = refuse(capsys, "train", *overrides)
    assert message.startswith(beginning)
    assert message.endswith(end)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["trian"],
            "`command` has no 'trian'; choose one of: train, compare, completion, data, evaluate, export, extend, log, "
            "new, plan, predict, report, resume, summary, verify.",
        ),
        (["data"], "data: usage: lenet-jax data prepare NAME [data.directory=DIR] [data.manual_dir=DIR]"),
        (
            ["data", "prepare", "mnst"],
            "`data prepare` has no 'mnst'; choose one of: mnist, kmnist, cifar10, cifar100, emnist/balanced, "
            "emnist/byclass, emnist/bymerge, emnist/digits, emnist/letters, emnist/mnist, fashion_mnist, svhn.",
        ),
        (
            ["data", "prepare", "mnist", "directory=a"],
            "data prepare: options are data.directory=DIR and data.manual_dir=DIR; got 'directory=a'.",
        ),
        (
            ["resume"],
            "resume: usage: lenet-jax resume DIR [--allow-changed] [--retry-failed] [hydra/launcher=NAME ...] "
            "[--distributed=auto] [--allow PACKAGE] [--trust]",
        ),
        (["resume", "nowhere"], "`DIR` must be of a run or a sweep, with a run.json or sweep.json in it; got nowhere."),
        (
            ["verify"],
            "verify: usage: lenet-jax verify DIR [--tolerance=0.001] [--jobs=0,3] [--allow PACKAGE] [--trust]",
        ),
        (["verify", "a", "--tolerance=much"], "verify: `--tolerance` must be a number from 0 to below 1; got 'much'."),
        (
            ["verify", "a", "--tolerant"],
            "`verify` has no '--tolerant'; choose one of: --tolerance, --allow, --jobs, --trust.",
        ),
        (["verify", "a", "--allow"], "verify: `--allow` must have a value, as --allow=VALUE; got none."),
        (
            ["verify", "a", "--trust=yes"],
            "`verify` has no '--trust=yes'; choose one of: --trust, --allow, --jobs, --tolerance.",
        ),
        (
            ["resume", "a", "--allow-chnged"],
            "`DIR` must be of a run or a sweep, with a run.json or sweep.json in it; got a.",
        ),
        (
            ["report"],
            "report: usage: lenet-jax report DIR [--format=html|pdf|svg] [--image=N] [--layer=NAME] "
            "[--weights=best|last] [--index] [--serve [--port=N]]",
        ),
        (
            ["evaluate"],
            "evaluate: usage: lenet-jax evaluate DIR [data=...] [--tta=N] [--ensemble] [--allow PACKAGE] [--trust], "
            "DIR of a finished run or a sweep.",
        ),
        (["report", "a", "b"], "report: usage: lenet-jax report DIR; got b."),
        (["evaluate", "nowhere"], "`DIR` must be the directory of a run, with a run.json in it; got nowhere."),
        (["summary", "--config", "a"], "`summary` has no '--config'; choose one of: --config-dir."),
        (["summary", "--config-dir=nowhere"], "`--config-dir` must be a folder; got nowhere."),
        (["evaluate", "a", "seed=3"], "evaluate: options are data=NAME and data.KEY=VALUE; got 'seed=3'."),
        (
            ["summary", "input_shape=28,28"],
            "summary: `input_shape` must be 3 integers with commas between them; got '28,28'.",
        ),
        (
            ["summary", "model=nope"],
            "`model` has no 'nope'; choose one of: alexnet, googlenet, lenet, lenet5, "
            "mnist_cnn, patch_units, resnet101, resnet152, resnet18, resnet34, resnet50, window_classifier, zfnet.",
        ),
        (
            ["data", "prepare", "mnist", "data.manual_dir="],
            "data prepare: options are data.directory=DIR and data.manual_dir=DIR; got 'data.manual_dir='.",
        ),
    ],
)
def test_an_unknown_command_is_one_line(arguments, message, capsys, tmp_path):
    assert refuse(capsys, *arguments) == message
    assert list(tmp_path.iterdir()) == []


def test_options_are_read_in_any_order_and_packages_are_added_up(monkeypatch):
    monkeypatch.setenv("LENET_JAX_ALLOW", "third")
    arguments = ["--allow", "mylab", "--tolerance=0.5", "data=idx", "--allow=another", "--allow-changed"]
    options = parse("resume", arguments, switches=["--allow-changed"], values=["--tolerance"])
    assert options.allowed == {"mylab", "another", "third"}
    assert (options.switches, options.values, options.rest) == (
        {"--allow-changed"},
        {"--tolerance": "0.5"},
        ["data=idx"],
    )
    assert parse("resume", ["--trust"]).allowed == {"*"}


@pytest.mark.parametrize(
    ("folder", "arguments"),
    [
        ("a", ["hydra.run.dir=a"]),
        ("a/3", ["hydra.run.dir=a/${seed}", "seed=3"]),
        ("a/1", ["-m", "hydra.sweep.dir=a", "seed=0,1"]),
        ("a/seed=5", ["-m", "hydra.sweep.dir=a", "hydra.sweep.subdir=${hydra.job.override_dirname}", "seed=5"]),
    ],
)
def test_a_directory_with_a_run_is_refused_and_stays_as_it_is(folder, arguments, capsys, tmp_path):
    (tmp_path / folder).mkdir(parents=True)
    (tmp_path / folder / "run.json").write_text("{}")
    message = refuse(capsys, "train", *arguments)
    assert message == (
        f"`hydra.run.dir` must not hold a run yet; {folder} has run.json; use another, or resume that run: "
        f"lenet-jax resume {folder}."
    )
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["run.json"]


@pytest.mark.parametrize("arguments", [["hydra.run.dir=file/run"], ["-m", "hydra.sweep.dir=file/run", "seed=1"]])
def test_a_directory_that_cannot_be_made_is_one_line(arguments, capsys, tmp_path):
    (tmp_path / "file").write_text("")
    assert refuse(capsys, "train", *arguments) == (
        "file/run: cannot be written (Not a directory); choose another with hydra.run.dir=DIR, "
        "or hydra.sweep.dir=DIR with -m."
    )
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_full_disk_is_one_line(capsys, monkeypatch):
    def full(path, content):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr("lenet_jax.runs.run_directory.write_atomically", full)
    message = refuse(capsys, "train", "hydra.run.dir=a", *TINY)
    assert message.partition(": ")[2].startswith("cannot be written (No space left on device); choose another with ")


def test_a_failed_run_keeps_its_traceback(monkeypatch):
    def fail(*arguments, **options):
        raise RuntimeError("a defect")

    monkeypatch.setattr("lenet_jax.runs.group.compile_programs", fail)
    with pytest.raises(RuntimeError, match="a defect"):
        main(["train", *TINY])


def test_a_diverged_run_is_recorded_and_exits_with_1(capsys):
    assert main(["train", *TINY, "optimizer.learning_rate=1e38"]) == 1
    assert re.search(r"^stopped by +diverged$", capsys.readouterr().out, re.MULTILINE)


def test_hydra_full_error_keeps_the_traceback_of_a_mistake(monkeypatch):
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    with pytest.raises(ValueError, match="`seed` must be"):
        main(["train", "seed=-1"])


@pytest.mark.parametrize(
    ("what", "code", "line"),
    [
        ("prepared_run.describe_run", 130, "lenet-jax: interrupted"),
        ("group.compile_programs", 75, "lenet-jax: interrupted; resume with lenet-jax resume 'a run'"),
    ],
)
def test_an_interrupted_run_is_one_line(what, code, line, capsys, monkeypatch):
    def interrupt(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(f"lenet_jax.runs.{what}", interrupt)
    assert main(["train", *TINY, "hydra.run.dir='a run'"]) == code
    assert capsys.readouterr().err == f"{line}\n"


@pytest.mark.parametrize(
    ("option", "remedy"),
    [
        ("trainer.max_epochs=9", "a finished one that has kept its state is trained longer by lenet-jax extend {} "),
        ("seed=2", "train anew with other options."),
        ("other", "resume one directory at a time."),
    ],
)
def test_a_run_is_resumed_as_it_began(option, remedy, finished_run, capsys):
    message = refuse(capsys, "resume", str(finished_run), option)
    assert message.startswith(f"resume: a run is resumed as it began; got {option}; {remedy.format(finished_run)}")


def test_the_version_is_that_of_the_distribution(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"lenet-jax {version('lenet-jax')}\n"


@pytest.mark.parametrize(
    ("kernels", "line"), [("baseline", "native, baseline"), ("none", "plain JAX, because LENET_JAX_KERNELS=none")]
)
def test_the_verbose_version_says_what_computes(kernels, line):
    if kernels != "none" and not native.LIBRARY.exists():
        pytest.skip("the kernels are not built")
    command = [sys.executable, "-m", "lenet_jax", "--version", "--verbose"]
    environment = os.environ | {"LENET_JAX_KERNELS": kernels, "JAX_NUM_CPU_DEVICES": "2"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.splitlines() == [
        f"lenet-jax  {version('lenet-jax')}",
        f"kernels    {line}",
        f"jax        {version('jax')}",
        f"jaxlib     {version('jaxlib')}",
        f"Python     {platform.python_version()}",
        "devices    2 cpu",
    ]


@pytest.mark.parametrize("arguments", [[], ["-h"], ["--help"]])
def test_help_lists_the_commands(arguments, capsys):
    assert main(arguments) == 0
    assert "train [KEY=VALUE ...]" in capsys.readouterr().out


def test_a_reader_that_closes_the_pipe_is_no_error():
    code = "import sys; from lenet_jax.cli import main; sys.exit(main(['train', '--help']))"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        assert process.stderr.read() == b""
    assert process.returncode == 1


@pytest.mark.parametrize(
    ("arguments", "answer"),
    [
        (["train", "--help"], "Groups and their options"),
        (["train", "--cfg", "job", "optimizer=adam"], "learning_rate: 0.001"),
        (["train", "--cfg", "job", "model=resnet50", "augment=photo", "schedule=cosine"], "depth: 50"),
        (["train", "--cfg", "job", "trackers=csv"], "name: metrics.csv"),
        (["train", "--info"], "hydra"),
        (["--version"], "lenet-jax"),
    ],
)
def test_questions_are_answered_without_jax(arguments, answer, tmp_path):
    code = "import atexit, sys; from lenet_jax.cli import main; atexit.register(lambda: print('jax' in sys.modules)); "
    code += f"main({arguments})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer in done.stdout
    assert done.stdout.endswith("\nFalse\n")
    assert list(tmp_path.iterdir()) == []


def test_a_run_leaves_its_files_and_a_table(tmp_path):
    done = lenet_jax("train", *TINY, "hydra.run.dir=run")
    assert (done.returncode, done.stderr) == (0, "")
    assert "\x1b" not in done.stdout
    table = done.stdout.splitlines()[-7:]
    assert [line[:21].strip() for line in table] == [
        "validation accuracy", "test accuracy", "epochs", "stopped by", "seconds", "images a second", "run directory",
    ]  # fmt: skip
    assert table[-1].split() == ["run", "directory", "run"]

    run = tmp_path / "run"
    assert {path.name for path in run.iterdir()} == {
        ".hydra", "checkpoints", "metrics.jsonl", "result.json", "run.json", "train.log",
    }  # fmt: skip
    assert {path.name for path in (run / ".hydra").iterdir()} == {"config.yaml", "hydra.yaml", "overrides.yaml"}
    result = json.loads((run / "result.json").read_text())
    assert result.keys() >= {
        "test_accuracy", "validation_accuracy", "epochs", "iterations", "stopped_by", "seconds", "compile_seconds",
        "images_per_second", "parameters_sha256",
    }  # fmt: skip
    assert (result["epochs"], result["iterations"], result["stopped_by"]) == (1, 4, "max_epochs")
    head, *evaluations = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    assert head["schema"] == 1
    assert [evaluation["iteration"] for evaluation in evaluations] == [4]
    assert evaluations[0].keys() == {
        "epoch", "iteration", "train_loss", "validation_loss", "validation_accuracy", "seconds",
    }  # fmt: skip
    assert json.loads((run / "run.json").read_text())["config"]["model"]["num_kernels"] == [2, 3]
    assert "validation loss" in (run / "train.log").read_text()


@pytest.fixture(scope="module")
def finished_run(tmp_path_factory):
    """The directory of a short run."""
    directory = tmp_path_factory.mktemp("finished") / "run"
    done = lenet_jax("train", *TINY, f"hydra.run.dir={directory}", XDG_CACHE_HOME=str(directory.parent / "cache"))
    assert done.returncode == 0
    return directory


def test_evaluate_measures_what_the_run_has_measured(finished_run, capsys):
    assert main(["evaluate", str(finished_run)]) == 0
    out = capsys.readouterr().out
    result = json.loads((finished_run / "result.json").read_text())
    assert out.splitlines()[0] == "data                 mnist_5k, test split, pixels / 256"
    assert f"test accuracy        {result['test_accuracy']:.2%} of 500 images" in out
    assert f"mean cross-entropy   {result['test_loss']:.4f} nats" in out
    *_, last = out.splitlines()
    assert last.split()[0] == "9"  # the confusion matrix, a row a class


def test_evaluate_takes_other_data(finished_run, mnist_directory, capsys):
    assert main(["evaluate", str(finished_run), "data=idx", f"data.directory={mnist_directory}"]) == 0
    assert " of 10,000 images" in capsys.readouterr().out


def test_evaluate_takes_a_part_of_the_data(finished_run, capsys):
    assert main(["evaluate", str(finished_run), "data.split=train"]) == 0
    found = capsys.readouterr()
    result = json.loads((finished_run / "result.json").read_text())
    assert f"train accuracy       {result['train_accuracy']:.2%} of 200 images" in found.out
    assert found.err == ""


def test_evaluate_warns_of_test_images_that_were_trained_on(finished_run, tmp_path, capsys):
    trained_on = read_embedded()["train_images"][:10], read_embedded()["train_labels"][:10]
    np.savez(
        tmp_path / "seen.npz", **dict(zip(("x_train", "y_train", "x_test", "y_test"), 2 * trained_on, strict=True))
    )
    other = ["data=npz", f"data.directory={tmp_path / 'seen.npz'}", "data.num_classes=10"]
    assert main(["evaluate", str(finished_run), *other]) == 0
    found = capsys.readouterr()
    assert "test accuracy" in found.out
    assert found.err.startswith("lenet-jax: warning: the run was trained on 10 of these 10 test examples;")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["evaluate", "data.split=all"], "`data.split` must be train, validation or test; got 'all'."),
        (["evaluate", "--weights=first"], "`--weights` must be best or last; got 'first'."),
        (["report", "--image=-1"], "`--image` must be the number of a test image, 0 or above; got '-1'."),
        (["report", "--image=500"], "`--image` must be below 500, the number of test images; got 500."),
    ],
)
def test_options_of_evaluate_and_report_are_checked(finished_run, arguments, message, capsys):
    command, option = arguments
    assert main([command, str(finished_run), option]) == 2
    assert message in capsys.readouterr().err


def test_report_draws_all_layers_for_an_image_of_choice(finished_run, tmp_path, capsys):
    run = shutil.copytree(finished_run, tmp_path / "copy")
    assert main(["report", str(run), "--image=3"]) == 0
    page = (run / "index.html").read_text()
    assert "The test image 3, a " in page
    drawn = {path.stem.split("_", 1)[1] for path in (run / "figures").glob("[0-9]*.png")}
    assert drawn == {"conv1_kernels", "conv1_maps", "tanh1_maps", "conv2_kernels", "conv2_maps", "tanh2_maps"} | {
        "conv1_maps_maps",  # before the pooling
        "conv2_maps_maps",
        "hidden_units",
        "tanh3_units",
        "softmax_units",
    }


def test_report_draws_a_run_on_a_page_that_needs_no_network(finished_run, capsys):
    assert main(["report", str(finished_run)]) == 0
    assert capsys.readouterr().out == f"report: {finished_run / 'index.html'}\n"
    page = (finished_run / "index.html").read_text()
    assert "://" not in page
    sources = re.findall(r'<a href="(figures/[^"]+)"', page)
    assert sorted(sources) == sorted(f"figures/{path.name}" for path in (finished_run / "figures").iterdir())
    assert {"figures/learning_curves.png", "figures/confusion_matrix.png", "figures/filters.png"} <= set(sources)


def test_summary_is_the_table_of_the_model(capsys):
    assert main(["summary", "model=lenet5"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert next(line[:3] for line in lines if line[:1] == ["total"]) == ["total", "60,000", "340,908"]


def test_summary_does_the_arithmetic_of_the_tensorflow_notes(capsys):
    arguments = ["model=window_classifier", "model.num_kernels=200", "model.padding=SAME", "input_shape=150,100,3"]
    assert main(["summary", *arguments]) == 0
    windows = next(line.split() for line in capsys.readouterr().out.splitlines() if line.startswith("windows"))
    assert (windows[2], windows[4], windows[5:7]) == ("15,200", "225,000,000", ["11.4", "MiB"])


@pytest.mark.slow
def test_a_wheel_brings_the_configuration(tmp_path):
    build = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--wheel-dir", ".", str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    conf = {f"lenet_jax/{path.relative_to(ROOT).as_posix()}" for path in (ROOT / "conf").rglob("*.yaml")}
    assert "lenet_jax/conf/config.yaml" in conf
    project = {f"lenet_jax/cli/project_template/{name}" for name in FILES}
    assert names >= conf | project | {
        "hydra_plugins/lenet_jax/__init__.py",
        "lenet_jax/__init__.pyi",
        "lenet_jax/data/checksums.tsv",
        "lenet_jax/data/mnist_5k.npz",
    }


@pytest.mark.parametrize(
    "command", ["plan", "resume", "verify", "evaluate", "report", "log", "summary", "new", "data", "completion"]
)
def test_each_command_explains_itself(command, capsys):
    assert main([command, "--help"]) == 0
    first, empty, summary, *_ = capsys.readouterr().out.splitlines()
    assert first.startswith(f"usage: lenet-jax {command} ")
    assert empty == ""
    assert summary.startswith(f"  {command} ")


@pytest.mark.parametrize(
    ("arguments", "directory", "others"),
    [
        (["a", "--trust"], "a", ["--trust"]),
        (["--trust", "a"], "a", ["--trust"]),
        (["--tolerance", "0.1", "a"], "a", ["--tolerance", "0.1"]),
        (["--allow=b", "--allow", "c", "a"], "a", ["--allow=b", "--allow", "c"]),
        (["data=idx", "a", "data.directory=b"], "a", ["data=idx", "data.directory=b"]),
        (["lr=0.1"], "lr=0.1", []),
        (["lr=0.2", "--trust"], None, ["lr=0.2", "--trust"]),
        ([], None, []),
    ],
)
def test_options_may_stand_before_the_directory(arguments, directory, others):
    Path("lr=0.1").mkdir()
    assert take_directory(arguments) == (directory, others)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("resume ", ["outputs/", "outputs/a/1"]),
        ("evaluate outputs/a/", ["outputs/a/1", "outputs/a/2/"]),
        ("completion ", ["bash", "fish", "zsh"]),
        ("compl", ["completion"]),
        ("pl", ["plan"]),
        ("plan -m model=lenet5", ["model=lenet5"]),
        ("evaluate outputs/a/1 data=emb", ["data=embedded"]),
    ],
)
def test_directories_and_shells_are_completed(line, expected, capsys, monkeypatch):
    for name in ("1", "2"):
        Path("outputs", "a", name).mkdir(parents=True)
    Path("outputs/a/1/run.json").touch()
    monkeypatch.setenv("COMP_LINE", f"lenet-jax {line}")
    assert main(["-sc", "query=bash"]) == 0
    shown = capsys.readouterr().out.split()
    assert [each for each in shown if each != "outputs/a/2/" or each in expected] == expected


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_for_a_shell_is_for_the_command_however_it_is_run(shell, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/somewhere/lenet_jax/__main__.py"])
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert re.search(r"^.*complete .*lenet-jax$|^complete -c lenet-jax|^compdef .*lenet-jax", script, re.MULTILINE), (
        script
    )
    assert not re.search(r"complete .* python$", script, re.MULTILINE)
    assert ("bashcompinit\n" in script) is (shell == "zsh")


def test_help_and_versions_are_found_by_other_words(capsys):
    for words, others in ((["help"], ["--help"]), (["help", "report"], ["report", "--help"])):
        assert main(words) == main(others) == 0
        both = capsys.readouterr().out
        assert both[: len(both) // 2] == both[len(both) // 2 :]
    assert main(["--verbose", "--version"]) == 0
    assert "\nkernels " in capsys.readouterr().out
    assert refuse(capsys, "--version", "a") == "--version: usage: lenet-jax --version [--verbose]; got --version a."
    assert refuse(capsys, "help", "trian").startswith("`command` has no 'trian'; choose one of: train, ")


def test_a_finished_run_says_how_to_train_longer(finished_run, capsys):
    assert main(["resume", str(finished_run)]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("The run has ended, by max_epochs; nothing was trained. To train longer, start a new run: ")
    command = last.partition("start a new run: ")[2]
    words = shlex.split(command)
    assert words[-1] == "trainer.max_epochs=2"
    assert not [word for word in words if "hydra.run.dir" in word]
    assert main([*words[1:], "--dry-run"]) == 0


def test_an_unknown_experiment_may_be_in_a_folder_of_the_users_own(capsys):
    message = refuse(capsys, "train", "experiment=mine")
    assert message.endswith(" One of your own is FOLDER/experiment/mine.yaml: add --config-dir FOLDER.")


@pytest.mark.slow
@pytest.mark.parametrize("compiler", ["false", "no-such-compiler", None])
def test_a_wheel_has_the_kernels_where_there_is_a_compiler(compiler, tmp_path):
    compiler = compiler or shutil.which("g++") or pytest.skip("needs g++")
    source, installed = tmp_path / "source", tmp_path / "installed"
    for name in ("lenet_jax", "hydra_plugins", "conf", "experiments/own_project"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    pip = [sys.executable, "-m", "pip", "-v"]
    command = [*pip, "wheel", "--no-deps", "--wheel-dir", str(tmp_path), str(source)]
    built = subprocess.run(command, check=True, capture_output=True, text=True, env=os.environ | {"CXX": compiler})
    said = [line for line in (built.stdout + built.stderr).splitlines() if "without its native kernels" in line]
    (wheel,) = tmp_path.glob("*.whl")
    is_plain = compiler in ("false", "no-such-compiler")
    assert (len(said), wheel.name.endswith("-any.whl")) == ((1, True) if is_plain else (0, False))

    subprocess.run([*pip, "install", "--no-deps", "--target", str(installed), str(wheel)], check=True)
    environment = {key: value for key, value in os.environ.items() if key != "LENET_JAX_KERNELS"}
    code = (
        "import lenet_jax; from lenet_jax.cli import main; print(lenet_jax.__file__); main(['--version', '--verbose'])"
    )
    shown = subprocess.run(
        [sys.executable, "-c", code],
        env=environment | {"PYTHONPATH": str(installed)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert shown.startswith(str(installed))
    assert ("kernels    native, " in shown) != is_plain
    assert ("kernels    plain JAX, because they were not built" in shown) == is_plain


def test_an_answer_that_a_full_disk_does_not_take_is_one_line():
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "lenet_jax", "--help"]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
    message = "the output, or a file, cannot be written (No space left on device); make room, or write elsewhere."
    assert (done.returncode, done.stderr) == (2, f"lenet-jax: {message}\n")


def test_a_working_directory_that_is_gone_is_one_line(tmp_path, monkeypatch, capsys):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert refuse(capsys, "train") == "the working directory is gone; change to one that exists."
