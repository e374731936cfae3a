"""Runs and sweeps from Python, beside the command line's."""

import json
import logging
import re
import textwrap
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from hydra.core.global_hydra import GlobalHydra

import lenet_jax as lj
from lenet_jax.cli import main
from lenet_jax.runs import Evaluated, Finished, Started
from lenet_jax.runs.recorder import Recorder

pytestmark = pytest.mark.usefixtures("in_an_empty_folder")

SMALL = ["model=window_classifier", "model.num_kernels=2", "model.hidden_units=4", "trainer.batch_size=500"]


class Tiny(nn.Module):
    width: int = 4

    @nn.compact
    def __call__(self, x):
        return nn.Dense(10)(nn.relu(nn.Dense(self.width)(x.reshape(x.shape[0], -1))))


def images(seed=0, count=120):
    keys = jax.random.split(jax.random.key(seed), 2)
    labels = jax.random.randint(keys[0], (count,), 0, 3)
    inputs = jax.random.normal(keys[1], (count, 6, 6, 1)) + labels[:, None, None, None].astype(jnp.float32)
    split = lj.Split(np.asarray(inputs), np.asarray(labels))
    return lj.Dataset(split, split, split, num_classes=10)


def two_layers(width=3):
    def make():
        return Tiny(width)

    return make


def without_times(directory):
    lines = [json.loads(line) for line in Path(directory, "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "seconds"} for line in lines]


def test_the_directory_is_the_command_lines(capsys):
    options = [*SMALL, "trainer.max_epochs=2", "seed=3"]
    run = lj.run(options, directory="python")
    assert main(["train", "hydra.run.dir=shell", *options]) == 0
    assert sorted(p.relative_to("python") for p in Path("python").rglob("*")) == sorted(
        p.relative_to("shell") for p in Path("shell").rglob("*")
    )
    assert without_times("python") == without_times("shell")
    for name in ("config.yaml", "overrides.yaml"):
        of_shell = Path("shell/.hydra", name).read_text().replace("shell", "python")
        assert Path("python/.hydra", name).read_text() == of_shell
    other = lj.open_run("shell")
    assert run.result["parameters_sha256"] == other.result["parameters_sha256"]
    assert run.provenance["code"] == other.provenance["code"]
    assert "verified" not in capsys.readouterr().err
    assert main(["verify", "python"]) == 0


def test_what_an_opened_run_has():
    lj.run([*SMALL, "trainer.max_epochs=3"], directory="run", progress=False)
    run = lj.open_run("run")
    assert run.config.trainer.max_epochs == run.config["trainer"]["max_epochs"] == 3
    assert run.metrics["epoch"].tolist() == [1, 2, 3]
    assert run.metrics["validation_loss"].dtype == np.float64
    assert run.result["epochs"] == 3
    data = run.data()
    logits = lj.predict_logits(run.model(), run.variables(), jnp.asarray(data.test.inputs))
    right = np.mean(np.asarray(logits).argmax(1) == np.asarray(data.test.targets))
    assert right == pytest.approx(run.result["test_accuracy"])
    assert len(repr(run)) < 200
    assert "<svg" in run._repr_html_()


def test_objects_take_the_place_of_all_components(capsys):
    events = []
    run = lj.run(
        ["trainer.max_epochs=2", "trainer.batch_size=40", "model.width=5"],
        model=Tiny,
        optimizer=optax.sgd(0.1),
        objective=lj.objectives.classification(label_smoothing=0.1),
        augment=[lambda key, image: image + 0.1 * jax.random.normal(key, image.shape)],
        data=images(),
        trackers=[events.append],
        directory="run",
    )
    assert run.variables().params["Dense_0"]["kernel"].shape in ((36, 5), (5, 10))
    assert [type(event) for event in events] == [Started, Evaluated, Evaluated, Finished]
    assert run.provenance["data"]["train"] == 120
    assert run.model().input_shape == (6, 6, 1)
    assert "Tiny" in capsys.readouterr().out


def test_an_objects_run_is_that_of_make_train():
    data, config = images(), lj.config.TrainerConfig(max_epochs=3, batch_size=40)
    run = lj.run(
        ["trainer.max_epochs=3", "trainer.batch_size=40", "seed=5"],
        model=two_layers(),
        optimizer=optax.sgd(0.1),
        data=data,
        directory="run",
    )
    train = lj.make_train(lj.interop.to_model(Tiny(3), (6, 6, 1)), optax.sgd(0.1), config)
    result = train(jax.random.key(5), {}, data)
    assert run.result["test_accuracy"] == pytest.approx(result.test.mean("accuracy"))


@pytest.fixture
def stop_after(monkeypatch):
    """Stop what runs after some evaluations, as Ctrl-C does."""

    def stop_after(number):
        left = [number]

        def evaluate(self, *arguments):
            event = of_recorder(self, *arguments)
            left[0] -= 1
            if left[0] == 0:
                raise KeyboardInterrupt
            return event

        monkeypatch.setattr(Recorder, "evaluate", evaluate)

    of_recorder = Recorder.evaluate
    return stop_after


def test_a_stopped_run_goes_on_in_the_same_cell(stop_after):
    def cell(directory):
        return lj.run(
            ["trainer.max_epochs=4", "trainer.checkpoint_every=1", "trainer.batch_size=40"],
            model=Tiny(6),
            data=images(),
            directory=directory,
            resume=True,
        )

    stop_after(2)
    with pytest.raises(KeyboardInterrupt):
        cell("run")
    assert not lj.open_run("run").result
    run, whole = cell("run"), cell("whole")
    assert run.result["parameters_sha256"] == whole.result["parameters_sha256"]
    assert without_times("run") == without_times("whole")
    before = Path("run/result.json").read_bytes()
    assert cell("run").result["epochs"] == 4
    assert Path("run/result.json").read_bytes() == before


def test_a_run_goes_on_only_with_what_it_began_with(stop_after):

    options = ["trainer.max_epochs=3", "trainer.checkpoint_every=1", "trainer.batch_size=40"]
    stop_after(1)
    with pytest.raises(KeyboardInterrupt):
        lj.run(options, model=two_layers(), data=images(), directory="run")
    with pytest.raises(lj.InputError, match=r"`trainer.max_epochs` must be that of the run in run, 3; got 5"):
        lj.run(
            ["trainer.max_epochs=5", *options[1:]],
            model=two_layers(),
            data=images(),
            directory="run",
            resume=True,
        )
    with pytest.raises(lj.InputError, match=r"has changed since the run began.*allow_changed=True"):
        lj.run(options, model=two_layers(), data=images(1), directory="run", resume=True)

    def make():  # another source than that of `two_layers`
        return Tiny(3)

    with pytest.raises(lj.InputError, match=r"code.components.__main__\S+ has changed since the run began"):
        lj.run(options, model=make, data=images(), directory="run", resume=True)
    run = lj.run(options, model=make, data=images(), directory="run", resume=True, allow_changed=True)
    assert run.result["epochs"] == 3


def test_a_redefined_function_is_another_component():
    accuracies = []
    for width in (1, 8):
        run = lj.run(["trainer.max_epochs=1", "trainer.batch_size=40"], model=two_layers(width), data=images())
        accuracies.append(run.variables().params["Dense_0"]["kernel"].size)
    assert accuracies[0] != accuracies[1]


def test_an_importable_function_is_recorded_by_its_path(monkeypatch):
    Path("ownlab_nets.py").write_text(
        textwrap.dedent("""
            from flax import linen as nn

            def tiny(num_outputs: int, width: int = 3):
                return nn.Sequential([lambda x: x.reshape(x.shape[0], -1), nn.Dense(width), nn.Dense(num_outputs)])
        """)
    )
    monkeypatch.syspath_prepend(str(Path.cwd()))
    import ownlab_nets  # pyright: ignore[reportMissingImports]

    run = lj.run(["trainer.max_epochs=1", "model.width=2"], model=ownlab_nets.tiny, directory="run")
    assert run.config.model == {"_target_": "ownlab_nets.tiny", "width": 2}
    assert main(["verify", "run", "--allow", "ownlab_nets"]) == 0
    with pytest.raises(lj.InputError, match="--allow ownlab_nets"):
        lj.open_run("run").model()
    assert lj.open_run("run", allow=["ownlab_nets"]).model().input_shape == (28, 28, 1)


def test_the_command_line_says_how_to_go_on_with_an_object(capsys):
    lj.run(["trainer.max_epochs=1"], model=Tiny(2), directory="run")
    assert main(["evaluate", "run", "--trust"]) == 2
    assert "go on from Python" in capsys.readouterr().err
    assert main(["evaluate", "run"]) == 2
    assert "is an object of a Python session" in capsys.readouterr().err


def test_a_sweep_of_an_object(capsys):
    runs = lj.sweep(
        {"optimizer.learning_rate": [np.float32(0.03125), 0.1], "seed": range(2)},
        ["trainer.max_epochs=2", "trainer.batch_size=40"],
        model=Tiny(4),
        data=images(),
        directory="sweep",
    )
    assert len(runs) == len(runs.jobs) == 4
    assert [job.config.seed for job in runs] == [0, 1, 0, 1]
    assert [job.config.optimizer.learning_rate for job in runs] == [0.03125, 0.03125, 0.1, 0.1]
    best = runs.best()
    key = "validation_accuracy"
    assert best.result[key] == max(job.result[key] for job in runs)
    assert runs.summary()["best"] == best.number
    assert len(repr(runs)) < 200
    assert "<table>" in runs._repr_html_()
    alone = lj.run(
        ["trainer.max_epochs=2", "trainer.batch_size=40", "seed=1", "optimizer.learning_rate=0.1"],
        model=Tiny(4),
        data=images(),
        directory="alone",
    )
    assert alone.result[key] == pytest.approx(runs.jobs[3].result[key], abs=0.02)
    assert lj.open_sweep("sweep").best().number == best.number
    with pytest.raises(lj.InputError, match="must not hold a sweep yet"):
        lj.sweep({"seed": range(2)}, directory="sweep")


def test_a_stopped_sweep_goes_on(stop_after):
    def cell():
        return lj.sweep(
            {"optimizer.learning_rate": [0.03, 0.1]},
            ["trainer.max_epochs=3", "trainer.batch_size=40", "trainer.checkpoint_every=1", "sweep.max_parallel=1"],
            model=Tiny(4),
            data=images(),
            directory="sweep",
            resume=True,
        )

    stop_after(4)
    with pytest.raises(KeyboardInterrupt):
        cell()
    assert {job.state for job in lj.open_sweep("sweep")} != {"done"}
    assert [job.state for job in cell()] == ["done", "done"]
    with pytest.raises(lj.InputError, match="the arguments must be those of the sweep"):
        lj.sweep({"optimizer.learning_rate": [0.5]}, directory="sweep", resume=True)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: lj.run("seed=1"), "`overrides` must be a list of texts"),
        (lambda: lj.run(["model=lenet"], model=Tiny(2)), "`model` must be given once"),
        (lambda: lj.run(resume=True), "`directory` must be given with resume=True"),
        (lambda: lj.run(["trainer.max_epochs=0"]), "`trainer.max_epochs`"),
        (lambda: lj.run(model=3), "`model` must return"),
        (
            lambda: lj.sweep({"seed": [0, 1]}, ["hydra/launcher=joblib", "trainer.batch_size=40"], model=Tiny(2)),
            "`hydra/launcher` must be lanes or basic with __main__.Tiny_",
        ),
        (lambda: lj.sweep({"seed": []}), "`grid` must have values for each key; got none for seed"),
        (lambda: lj.sweep({"seed": [object()]}), "`seed` must be a number, a text"),
        (lambda: lj.open_run("nowhere"), "`DIR` must be the directory of a run"),
        (lambda: lj.open_sweep("nowhere"), "`SWEEP_DIR` must be the directory of a sweep"),
    ],
)
def test_bad_arguments_are_one_line_and_write_nothing(call, message):
    with pytest.raises(lj.InputError, match=re.escape(message)) as caught:
        call()
    assert "\n" not in str(caught.value)
    assert not list(Path().iterdir())


def test_values_with_special_characters_reach_their_key():
    runs = lj.sweep({"notes": ["it's, a=b", "null", "a b", "true"]}, ["trainer.max_epochs=1", *SMALL])
    assert [job.config.notes for job in runs] == ["it's, a=b", "null", "a b", "true"]


class Remembering(logging.NullHandler):
    closed = False

    def close(self):
        self.closed = True
        super().close()


def test_the_users_hydra_and_logging_stay():
    GlobalHydra.instance().clear()
    handler, root = Remembering(), logging.getLogger()
    root.addHandler(handler)
    level = root.level
    try:
        lj.run(["trainer.max_epochs=1", *SMALL], progress=False)
        assert handler in root.handlers
        assert not handler.closed
        assert root.level == level
        assert not GlobalHydra.instance().is_initialized()
    finally:
        root.removeHandler(handler)
