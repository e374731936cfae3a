"""Networks of flax, Equinox and plain JAX by configuration: trained, swept, resumed, verified, looked at."""

import json
import os
import re
import signal
import sys
import textwrap

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file

from lenet_jax.cli import main
from lenet_jax.runs.recorder import Recorder
from tests.default_signals import default_signals

pytestmark = pytest.mark.filterwarnings("ignore:from_linen. .* of Linen is dropped:UserWarning")

PACKAGE = "own_networks"  # imported once a process, so no other test may have one of this name
NETS = """
    import math

    import jax
    import jax.numpy as jnp
    import numpy as np
    import lenet_jax as lj
    from flax import linen as nn
    from flax import nnx

    class Linen(nn.Module):
        num_outputs: int
        width: int = 4
        rate: float = 0.2

        @nn.compact
        def __call__(self, images, train: bool = False):
            x = nn.Dense(self.width)(images.reshape(len(images), -1))
            x = nn.relu(nn.BatchNorm(use_running_average=not train, momentum=0.9)(x))
            self.sow("losses", "l2", jnp.mean(x**2))
            return nn.Dense(self.num_outputs)(nn.Dropout(self.rate, deterministic=not train)(x))

    class Nnx(nnx.Module):
        def __init__(self, *, input_shape, num_outputs, width: int = 4, rngs: nnx.Rngs):
            self.hidden = nnx.Linear(math.prod(input_shape), width, rngs=rngs)
            self.norm = nnx.BatchNorm(width, momentum=0.9, rngs=rngs)
            self.dropout = nnx.Dropout(0.2, rngs=rngs)
            self.last = nnx.Linear(width, num_outputs, rngs=rngs)

        def __call__(self, images):
            x = nnx.relu(self.norm(self.hidden(images.reshape(len(images), -1))))
            return self.last(self.dropout(x))

    def pair(*, input_shape, num_outputs, width: int = 4):
        def init(key):
            one, two = jax.random.split(key)
            scale = 1 / math.sqrt(math.prod(input_shape))
            return {
                "hidden": scale * jax.random.normal(one, (math.prod(input_shape), width)),
                "last": jax.random.normal(two, (width, num_outputs)),
            }

        def apply(params, images, key=None):
            x = jnp.tanh(images.reshape(len(images), -1) @ params["hidden"])
            if key is not None:
                x = x * jax.random.bernoulli(key, 0.8, x.shape).astype(x.dtype)
            return x @ params["last"]

        return init, apply

    def vectors():
        x = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
        split = lj.Split(x, x @ np.float32([[1.0], [2.0], [3.0]]))
        return lj.Dataset(split, split, split, num_classes=1)

    def named_vectors():
        x = np.random.default_rng(0).normal(size=(240, 3)).astype(np.float32)
        words = (np.arange(240) % 5).astype(np.int32)
        split = lj.Split({"x": x, "word": words}, x @ np.float32([[1.0], [2.0], [3.0]]))
        return lj.Dataset(split, split, split, num_classes=1)

    def of_named(*, input_shape, num_outputs):
        assert input_shape == {"x": (3,), "word": ()}, input_shape
        class Net(nn.Module):
            @nn.compact
            def __call__(self, inputs):
                x = nn.Dense(4)(inputs["x"]) + nn.Embed(5, 4)(inputs["word"])
                return {"mean": nn.Dense(num_outputs)(x), "scale": nn.Dense(num_outputs)(x)}
        return Net()

    def two_outputs(*, num_outputs):
        class Net(nn.Module):
            @nn.compact
            def __call__(self, x):
                return {"mean": nn.Dense(num_outputs)(x), "scale": nn.Dense(num_outputs)(x)}
        return Net()

    def likelihood():
        def loss(outputs, targets):
            scale = jnp.exp(outputs["scale"])
            return jnp.sum((outputs["mean"] - targets) ** 2 / scale + outputs["scale"], axis=-1)
        return lj.Objective(loss, {}, monitor="loss", mode="min")

    def errors(*, name: str = "error", broken: bool = False):
        def squared(outputs, targets):
            return jnp.square(outputs - targets).mean(axis=-1)

        def error(outputs, targets):
            return jnp.nan * squared(outputs, targets) if broken else squared(outputs, targets)
        return lj.Objective(squared, {name: error}, monitor=name, mode="min")
"""
SMALL = ["data.train_size=100", "trainer.max_epochs=3", "trainer.batch_size=20"]
KINDS = ["Linen", "Nnx", pytest.param("pair", marks=pytest.mark.slow)]


@pytest.fixture(autouse=True)
def package(in_an_empty_folder, tmp_path_factory, monkeypatch):
    """The working directory, with a package of the user's."""
    if PACKAGE not in sys.modules:
        folder = tmp_path_factory.mktemp("user")
        (folder / f"{PACKAGE}.py").write_text(textwrap.dedent(NETS))
        monkeypatch.syspath_prepend(str(folder))
        __import__(PACKAGE)
    monkeypatch.setattr(sys, "path", [*sys.path])
    with default_signals():
        yield


@pytest.fixture
def stop_once(monkeypatch):
    """Return a function after which the process gets a signal to stop at the second evaluation that follows."""

    def prepare():
        evaluate, evaluations = Recorder.evaluate, []

        def stopping(recorder, *args):
            evaluations.append(args)
            if len(evaluations) == 2:
                os.kill(os.getpid(), signal.SIGTERM)
            return evaluate(recorder, *args)

        monkeypatch.setattr(Recorder, "evaluate", stopping)

    return prepare


def run(capsys, *arguments, code=0):
    found = main(list(arguments))
    captured = capsys.readouterr()
    assert found == code, captured.out + captured.err
    return captured.err if code else captured.out


def refused(capsys, *arguments):
    message = run(capsys, *arguments, code=2)
    assert message.count("\n") == 1
    return message.removeprefix("lenet-jax: ").rstrip("\n")


def of(kind):
    return f"model._target_={PACKAGE}.{kind}"


ALLOW = ["--allow", PACKAGE]


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_that_is_interrupted_ends_with_the_bits_of_one_that_is_not(kind, capsys, tmp_path, stop_once):
    run(capsys, "train", of(kind), *SMALL, "hydra.run.dir=whole")
    stop_once()
    run(capsys, "train", of(kind), *SMALL, "hydra.run.dir=cut", code=75)
    assert len((tmp_path / "cut" / "metrics.jsonl").read_text().splitlines()) == 3
    run(capsys, "resume", "cut", *ALLOW)
    whole, cut = (json.loads((tmp_path / name / "result.json").read_text()) for name in ("whole", "cut"))
    assert (cut["parameters_sha256"], cut["epochs"]) == (whole["parameters_sha256"], 3)
    pair = (load_file(tmp_path / name / "checkpoints" / "best.safetensors") for name in ("whole", "cut"))
    [np.testing.assert_array_equal(a, b) for a, b in zip(*(each.values() for each in pair), strict=True)]

    assert "identical" in run(capsys, "verify", "whole", *ALLOW)
    assert "accuracy" in run(capsys, "evaluate", "whole", *ALLOW)
    run(capsys, "report", "whole", *ALLOW)
    assert (tmp_path / "whole" / "index.html").is_file()
    assert "names code to run" in refused(capsys, "evaluate", "whole")


@pytest.mark.parametrize("kind", KINDS)
def test_two_seeds_are_one_program_and_each_the_bits_of_a_single_run(kind, capsys, tmp_path, monkeypatch):
    from lenet_jax.runs import group

    compiled = []
    compile_programs = group.compile_programs
    monkeypatch.setattr(group, "compile_programs", lambda *a, **o: compiled.append(1) or compile_programs(*a, **o))
    out = run(capsys, "train", "-m", of(kind), *SMALL, "seed=0,1", "model.width=3", "hydra.sweep.dir=sweep")
    assert "2 jobs: 2 done" in out
    assert len(compiled) == 1
    run(capsys, "train", of(kind), *SMALL, "seed=1", "model.width=3", "hydra.run.dir=alone")
    digests = [
        json.loads((tmp_path / name / "result.json").read_text())["parameters_sha256"]
        for name in ("sweep/0", "sweep/1", "alone")
    ]
    assert digests[1] == digests[2] != digests[0]


@pytest.mark.parametrize("kind", KINDS)
def test_the_summary_has_the_arrays_and_the_number_of_parameters(kind, capsys):
    lines = run(capsys, "summary", of(kind), "model.width=5", "input_shape=6", "num_classes=2").splitlines()
    count = 6 * 5 + 5 * 2 + (0 if kind == "pair" else 5 + 2 + 2 * 5)
    assert lines[-1].split() == ["total", str(count)]
    assert lines[2].split() == ["input", "6"]
    assert (sum(line.endswith("state") for line in lines)) == (0 if kind == "pair" else 2)


def test_the_options_are_those_of_the_signature_without_what_flax_and_the_run_supply(capsys, tmp_path):
    message = refused(capsys, "train", of("Linen"), "model.parent=a")
    assert message == "`model` has no 'parent'; choose one of: rate, width."
    for option in ("rngs", "num_outputs"):
        assert refused(capsys, "train", of("Nnx"), f"model.{option}=1").startswith(f"`model` has no '{option}'; ")
    assert refused(capsys, "train", of("Nnx"), "model.width=a") == "`model.width` must be an integer; got 'a'."
    run(capsys, "train", of("Linen"), *SMALL, "hydra.run.dir=run")
    recorded = json.loads((tmp_path / "run" / "run.json").read_text())["config"]["model"]
    assert recorded == {"_target_": f"{PACKAGE}.Linen", "width": 4, "rate": 0.2}


def test_help_shows_the_options_of_the_component_that_is_named(capsys):
    shown = run(capsys, "train", of("Linen"), "model.width=9", "--help")
    assert f"model:\n  _target_: {PACKAGE}.Linen\n  width: 9\n  rate: 0.2\ndata:" in shown
    shown = run(capsys, "train", "optimizer._target_=optax.adam", "--help")
    assert "optimizer:\n  _target_: optax.adam\n  learning_rate: ???\n  b1: 0.9\n" in shown


@pytest.fixture
def equinox_package(tmp_path, monkeypatch):
    pytest.importorskip("equinox")
    code = """
        import equinox as eqx

        class Net(eqx.Module):
            norm: eqx.nn.BatchNorm
            dropout: eqx.nn.Dropout
            last: eqx.nn.Linear

            def __init__(self, *, num_outputs, rate: float = 0.2, key):
                self.norm = eqx.nn.BatchNorm(784, "batch", mode="batch")
                self.dropout, self.last = eqx.nn.Dropout(rate), eqx.nn.Linear(784, num_outputs, key=key)

            def __call__(self, x, state, key):
                x, state = self.norm(x.reshape(-1), state)
                return self.last(self.dropout(x, key=key)), state
    """
    (tmp_path / "own_equinox.py").write_text(textwrap.dedent(code))
    monkeypatch.syspath_prepend(str(tmp_path))
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):  # which equinox relies on
        yield


@pytest.mark.usefixtures("equinox_package")
def test_an_equinox_module_trains_resumes_and_is_verified(capsys, tmp_path, stop_once):
    own = [*SMALL, "model._target_=own_equinox.Net"]
    assert "rate: 0.2" in run(capsys, "train", own[-1], "--help")
    run(capsys, "train", "-m", *own, "seed=0,1", "hydra.sweep.dir=sweep")
    stop_once()
    run(capsys, "train", *own, "seed=1", "hydra.run.dir=cut", code=75)
    allow = [*ALLOW, "--allow", "own_equinox"]
    run(capsys, "resume", "cut", *allow)
    digests = [
        json.loads((tmp_path / name / "result.json").read_text())["parameters_sha256"] for name in ("sweep/1", "cut")
    ]
    assert digests[0] == digests[1]
    assert "identical" in run(capsys, "verify", "sweep/0", *allow)
    run(capsys, "report", "cut", *allow)
    assert run(capsys, "summary", own[-1]).splitlines()[-1].split() == ["total", f"{2 * 784 + 7850:,}"]


REGRESSION = [f"data._target_={PACKAGE}.vectors", "trainer.batch_size=10", "trainer.max_epochs=3"]


@pytest.mark.parametrize("kind", KINDS)
def test_vectors_are_inputs_as_well(kind, capsys):
    run(capsys, "train", of(kind), *REGRESSION, "objective=regression", "hydra.run.dir=run")
    assert "identical" in run(capsys, "verify", "run", *ALLOW)
    run(capsys, "evaluate", "run", *ALLOW)
    run(capsys, "report", "run", *ALLOW)


def test_inputs_are_a_pytree_of_which_the_model_gets_the_shapes(capsys):
    own = [of("of_named"), f"objective._target_={PACKAGE}.likelihood", f"data._target_={PACKAGE}.named_vectors"]
    run(capsys, "train", *own, *REGRESSION[1:], "optimizer.learning_rate=0.001", "hydra.run.dir=run")
    assert "identical" in run(capsys, "verify", "run", *ALLOW)
    run(capsys, "evaluate", "run", *ALLOW)
    run(capsys, "report", "run", *ALLOW)


def test_outputs_are_a_pytree_for_an_objective_of_the_users_own(capsys):
    own = [of("two_outputs"), f"objective._target_={PACKAGE}.likelihood"]
    run(capsys, "train", *own, *REGRESSION, "hydra.run.dir=run")
    assert "identical" in run(capsys, "verify", "run", *ALLOW)
    run(capsys, "evaluate", "run", *ALLOW)
    run(capsys, "report", "run", *ALLOW)
    refused(capsys, "train", of("two_outputs"), *SMALL)


def test_a_metric_that_is_never_a_number_is_not_the_best_and_is_shown_as_nan(capsys, tmp_path):
    own = [of("pair"), *REGRESSION, f"objective._target_={PACKAGE}.errors"]
    out = run(capsys, "train", *own, "objective.broken=true", "hydra.run.dir=run")
    for line in (out, run(capsys, "resume", "run", *ALLOW)):
        assert re.search(r"^validation error +nan$", line, re.MULTILINE)
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert (result["validation_error"], result["best_iteration"]) == (None, 0)
    run(capsys, "report", "run", *ALLOW)
    out = run(capsys, "train", "-m", *own, "objective.broken=true,false", "seed=0,1", "hydra.sweep.dir=sweep")
    assert json.loads((tmp_path / "sweep" / "summary.json").read_text())["best"] in (2, 3)
    assert re.search(r"^True +0 of 2$", out, re.MULTILINE)


def test_jobs_that_monitor_other_metrics_are_summed_up_each_by_its_own(capsys, tmp_path):
    own = [of("pair"), *REGRESSION, f"objective._target_={PACKAGE}.errors"]
    out = run(capsys, "train", "-m", *own, "objective.name=error,distance", "hydra.sweep.dir=sweep")
    for number, name in enumerate(["error", "distance"]):
        assert re.search(rf"^objective.name +n  validation {name}  test {name} .*\n{name} +1 of 1 ", out, re.MULTILINE)
        assert re.search(rf"^best: job {number}, validation .*  objective.name={name}$", out, re.MULTILINE)
        assert (tmp_path / "sweep" / "figures" / f"learning_curves_{name}.png").is_file()


# ---- completion -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("lenet-jax tra", {"train"}),
        ("lenet-jax train model.h", {"model.hidden_units="}),
        ("lenet-jax train optimizer=adam optimizer.b", {"optimizer.b1=", "optimizer.b2="}),
        ("lenet-jax train model=len", {"model=lenet", "model=lenet5"}),
        ("lenet-jax train trainer.max_e", {"trainer.max_epochs="}),
        (f"lenet-jax train {of('Linen')} model.", {"model._target_=", "model.width=", "model.rate="}),
        (f"lenet-jax train -m {of('Nnx')} seed=0 model.w", {"model.width="}),
        (f"lenet-jax summary {of('pair')} model.w", {"model.width="}),
        ("lenet-jax train optimizer._target_=optax.adam optimizer.l", {"optimizer.learning_rate="}),
        ("lenet-jax train -m 'seed=range(8)' \"model.strides=[1, 2]\" model.h", {"model.hidden_units="}),
        ("lenet-jax train 'model.h", set()),
        ("lenet-jax train --config-dir conf model=mi", {"model=mine"}),
        ("lenet-jax train --config-dir nowhere model=", set()),
        (f"lenet-jax train model._target_={PACKAGE}.nothing model.", set()),
        ("lenet-jax train --nonsense model.", set()),
        ("lenet-jax resume ", {"conf/"}),
    ],
)
@pytest.mark.parametrize("shell", ["bash", "fish"])
def test_a_shell_completes(shell, line, expected, capsys, monkeypatch, tmp_path):
    (tmp_path / "conf" / "model").mkdir(parents=True)
    (tmp_path / "conf" / "model" / "mine.yaml").write_text(f"_target_: {PACKAGE}.pair\n")
    monkeypatch.setenv("COMP_LINE", line)
    monkeypatch.setenv("COMP_POINT", str(len(line)))
    assert main(["-sc", f"query={shell}"]) == 0
    out, err = capsys.readouterr()
    assert (set(out.split()), err) == (expected, "")


def test_a_shell_is_given_its_script(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/somewhere/bin/lenet-jax"])
    script = run(capsys, "-sc", "install=bash")
    assert script.rstrip().endswith("-F hydra_bash_completion lenet-jax")
    assert "$helper -sc query=bash" in script
    assert refused(capsys, "train", "-sc", "install=tcsh").endswith("of bash, fish or zsh; got install=tcsh.")
