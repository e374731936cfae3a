"""A user's own components, launchers, callbacks and files: run, swept, resumed and verified; refused unless allowed."""

import json
import os
import re
import subprocess
import sys
import textwrap

import pytest

from tests.conftest import ROOT

NETS = """
    import jax
    import jax.numpy as jnp
    from typing import Annotated
    from lenet_jax import layers
    from lenet_jax.config.checks import AtLeast
    from lenet_jax.ops.initializers import fan_in_uniform
    from lenet_jax.types import Model, Variables

    def tiny(*, input_shape, num_outputs, depth: Annotated[int, AtLeast(1)] = 2) -> Model:
        size = input_shape[0] * input_shape[1] * input_shape[2]

        def init(key):
            keys = jax.random.split(key, depth)
            params = {f"w{i}": 0.1 * jax.random.normal(keys[i], (size if i == 0 else 8, 8)) for i in range(depth)}
            return Variables({**params, "out": jnp.zeros((8, num_outputs))}, {})

        def apply(variables, inputs, *, train=False, key=None):
            x = inputs.reshape(inputs.shape[0], -1)
            for i in range(depth):
                x = jnp.tanh(x @ variables.params[f"w{i}"])
            return x @ variables.params["out"], variables.state

        return Model(init, apply)

    def layered(*, input_shape, num_outputs):
        stages = {"flatten": layers.flatten(), "out": layers.dense(num_outputs, fan_in_uniform())}
        return layers.make_model(layers.serial(stages), input_shape)
"""
SMALL = ["data.train_size=100", "trainer.max_epochs=1", "trainer.batch_size=20"]
OWN = ["model._target_=mylab.nets.tiny", *SMALL]


TRACKER = """
    def failing(directory):
        def track(event):
            raise RuntimeError("no connection")
        return track
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A working directory with a package of the user's."""
    folder = tmp_path_factory.mktemp("user")
    (folder / "mylab").mkdir()
    (folder / "mylab" / "nets.py").write_text(textwrap.dedent(NETS))
    (folder / "mylab" / "trackers.py").write_text(textwrap.dedent(TRACKER))
    return folder


def lenet_jax(folder, *arguments, **environment):
    return subprocess.run(
        [sys.executable, "-m", "lenet_jax", *arguments],
        cwd=folder,
        env={**os.environ, "XDG_CACHE_HOME": str(folder / "cache"), "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def check(done, code=0):
    assert done.returncode == code, done.stdout + done.stderr
    return done


def refused(done):
    check(done, 2)
    assert done.stderr.count("\n") == 1
    return done.stderr.removeprefix("lenet-jax: ").rstrip("\n")


REMEDY = (
    "names code to run, 'mylab.nets.tiny'; if you know it, allow its package: --allow mylab on this command, "
    'LENET_JAX_ALLOW=mylab, or allow = ["mylab"] under [tool.lenet_jax] of your pyproject.toml.'
)


def test_an_own_model_runs_and_its_options_are_checked_and_recorded(folder):
    check(lenet_jax(folder, "train", *OWN, "model.depth=6", "hydra.run.dir=run"))
    recorded = json.loads((folder / "run" / "run.json").read_text())["config"]["model"]
    assert recorded == {"_target_": "mylab.nets.tiny", "depth": 6}
    assert refused(lenet_jax(folder, "train", *OWN, "model.deph=6")) == "`model` has no 'deph'; choose one of: depth."
    message = refused(lenet_jax(folder, "train", *OWN, "model.depth=0"))
    assert message == "`model.depth` must be an integer, 1 or above; got 0."
    message = refused(lenet_jax(folder, "train", *SMALL, "model._target_=mylab.nets.tinny"))
    assert message == "`_target_` mylab.nets.tinny: `mylab.nets` has no 'tinny'; choose one of: tiny, layered."

    assert refused(lenet_jax(folder, "verify", "run")) == f"`model` of run {REMEDY}"
    assert refused(lenet_jax(folder, "evaluate", "run", "--allow", "another")) == f"`model` of run {REMEDY}"
    check(lenet_jax(folder, "verify", "run", "--allow", "mylab"))
    check(lenet_jax(folder, "evaluate", "run", LENET_JAX_ALLOW="mylab"))
    check(lenet_jax(folder, "report", "run", "--trust"))


@pytest.mark.parametrize("launcher", ["lanes", *(pytest.param(n, marks=pytest.mark.slow) for n in ("basic", "joblib"))])
def test_an_own_model_is_swept_and_resumed_where_it_is_allowed(launcher, folder):
    directory = f"sweep-{launcher}"
    arguments = [f"hydra/launcher={launcher}", f"hydra.sweep.dir={directory}", "model.depth=1,2", "seed=0,1"]
    assert "4 jobs: 4 done" in check(lenet_jax(folder, "train", "-m", *OWN, *arguments)).stdout
    configs = [json.loads((folder / directory / str(n) / "run.json").read_text())["config"] for n in range(4)]
    assert [config["model"]["depth"] for config in configs] == [1, 1, 2, 2]
    summary = (folder / directory / "summary.json").read_bytes()
    (folder / directory / "jobs" / "3.json").unlink()
    assert refused(lenet_jax(folder, "resume", directory)).endswith(f"job 0 {REMEDY}")
    assert not (folder / directory / "jobs" / "3.json").exists()
    check(lenet_jax(folder, "resume", directory, "--allow", "mylab"))
    assert (folder / directory / "summary.json").read_bytes() == summary


def test_a_model_that_is_one_function_and_one_file_has_a_name(folder):
    (folder / "conf" / "model").mkdir(parents=True)
    (folder / "conf" / "model" / "tiny.yaml").write_text("# Two layers.\n_target_: mylab.nets.tiny\ndepth: 3\n")
    shown = check(lenet_jax(folder, "train", "--config-dir", "conf", "--cfg", "job", "model=tiny"))
    assert "model:\n  _target_: mylab.nets.tiny\n  depth: 3\n" in shown.stdout
    arguments = ["--config-dir", "conf", *SMALL, "model=tiny", "hydra.run.dir=named"]
    check(lenet_jax(folder, "train", *arguments))
    assert json.loads((folder / "named" / "run.json").read_text())["config"]["model"]["depth"] == 3
    message = refused(lenet_jax(folder, "train", "--config-dir", "conf", "model=tinny"))
    assert message.startswith("`model` has no 'tinny'; choose one of: tiny, ")
    message = refused(lenet_jax(folder, "train", "model=tiny"))
    assert message.endswith(", zfnet. There is conf/model/tiny.yaml: add --config-dir conf.")


DATA = """
    import numpy as np
    import lenet_jax as lj

    def blank(*, size: int = 40):
        split = lj.Split(np.zeros((size, 28, 28, 1), np.uint8), np.arange(size) % 10)
        return lj.Dataset(split, split, split)
"""


def test_summary_and_evaluate_take_a_folder_of_the_users_own(folder, tmp_path):
    (tmp_path / "mydata.py").write_text(textwrap.dedent(DATA))
    for group, target in (("data", "mydata.blank"), ("model", "mylab.nets.layered")):
        (tmp_path / "mine" / group).mkdir(parents=True)
        (tmp_path / "mine" / group / "own.yaml").write_text(f"_target_: {target}\n")
    options = ["--config-dir", "mine", "model=own", "input_shape=4,4,1", "num_classes=3"]
    assert re.search(
        "^total .* 51 ", check(lenet_jax(tmp_path, "summary", *options, PYTHONPATH=f"{ROOT}:{folder}")).stdout, re.M
    )
    small = ["model.num_kernels=[2,2]", "model.hidden_units=4", *SMALL, "hydra.run.dir=run"]
    check(lenet_jax(tmp_path, "train", *small))
    # As the installed program: Python itself does not look for modules in the working directory.
    own = ["evaluate", "run", "--config-dir=mine", "data=own", "data.size=30"]
    assert "of 30 images" in check(lenet_jax(tmp_path, *own, PYTHONSAFEPATH="1")).stdout


def test_a_callback_and_a_log_of_the_users_own_are_used(folder):
    (folder / "mylab" / "hooks.py").write_text(
        textwrap.dedent("""
            from pathlib import Path
            from hydra.experimental.callback import Callback

            class Told(Callback):
                def __init__(self, name):
                    self.name = name

                def on_job_end(self, config, job_return, **kwargs):
                    Path(self.name).write_text(str(config.seed))
        """)
    )
    options = ["+hydra.callbacks.told._target_=mylab.hooks.Told", f"+hydra.callbacks.told.name={folder / 'told'}"]
    options += ["hydra.job_logging.handlers.file.filename='${hydra.runtime.output_dir}/own.log'"]
    check(lenet_jax(folder, "train", *OWN, *options, "seed=7", "hydra.run.dir=hooked"))
    assert (folder / "told").read_text() == "7"
    assert "validation loss" in (folder / "hooked" / "own.log").read_text()


COUNTING = """
    from pathlib import Path
    from hydra.experimental.callback import Callback

    class Counting(Callback):
        def __init__(self, name):
            self.name = name

        def _add(self, text):
            with Path(self.name).open("a") as file:
                file.write(text + "\\n")

        def on_multirun_start(self, config, **kwargs):
            self._add("start")

        def on_job_start(self, config, **kwargs):
            self._add(f"start {config.hydra.job.num} {config.seed}")

        def on_job_end(self, config, job_return, **kwargs):
            self._add(f"end {config.hydra.job.num} {job_return.status.name}")

        def on_multirun_end(self, config, **kwargs):
            self._add("end")
"""


@pytest.mark.parametrize("launcher", ["lanes", *(pytest.param(n, marks=pytest.mark.slow) for n in ("basic", "joblib"))])
def test_callbacks_are_called_in_a_sweep_and_in_a_resumed_one_if_they_are_allowed(launcher, folder):
    (folder / "mylab" / "counting.py").write_text(textwrap.dedent(COUNTING))
    told, directory = folder / f"told-{launcher}", f"called-{launcher}"
    options = ["+hydra.callbacks.a._target_=mylab.counting.Counting", f"+hydra.callbacks.a.name={told}"]
    options += ["seed=7,8", f"hydra/launcher={launcher}", f"hydra.sweep.dir={directory}"]
    check(lenet_jax(folder, "train", "-m", *OWN, *options))
    lines = told.read_text().splitlines()
    assert (lines[0], lines[-1]) == ("start", "end")
    assert sorted(lines[1:-1]) == ["end 0 COMPLETED", "end 1 COMPLETED", "start 0 7", "start 1 8"]
    (folder / directory / "jobs" / "1.json").unlink()
    message = refused(lenet_jax(folder, "resume", directory))
    assert message.startswith(f"`hydra.callbacks.a` of {directory} names code to run, 'mylab.counting.Counting'; ")
    assert told.read_text().splitlines() == lines
    check(lenet_jax(folder, "resume", directory, "--allow", "mylab"))
    assert told.read_text().splitlines()[len(lines) :] == ["start", "start 1 8", "end 1 COMPLETED", "end"]


def test_a_launcher_of_the_users_own_is_used_and_refused_from_a_directory(folder):
    plugins = folder / "plugins" / "hydra_plugins" / "mylab"
    plugins.mkdir(parents=True)
    (plugins / "__init__.py").write_text(
        textwrap.dedent("""
            from hydra._internal.core_plugins.basic_launcher import BasicLauncher
            from hydra.core.config_store import ConfigStore

            class Loud(BasicLauncher):
                def launch(self, job_overrides, initial_job_idx):
                    print("loud")
                    return super().launch(job_overrides, initial_job_idx)

            ConfigStore.instance().store(
                group="hydra/launcher", name="loud", node={"_target_": "hydra_plugins.mylab.Loud"}, provider="mylab"
            )
        """)
    )
    path = os.pathsep.join([str(ROOT), str(folder / "plugins")])
    arguments = [*SMALL, "model.num_kernels=[2,2]", "seed=0,1", "hydra/launcher=loud", "hydra.sweep.dir=loud"]
    done = check(lenet_jax(folder, "train", "-m", *arguments, PYTHONPATH=path))
    assert "loud\n" in done.stdout
    (folder / "loud" / "jobs" / "1.json").unlink()
    assert refused(lenet_jax(folder, "resume", "loud", PYTHONPATH=path)) == (
        "`hydra.launcher` in the directory of the sweep names code to run, hydra_plugins.mylab.Loud; if you know it, "
        "allow it: --allow hydra_plugins."
    )
    assert "loud\n" in check(lenet_jax(folder, "resume", "loud", "--allow", "hydra_plugins", PYTHONPATH=path)).stdout
    message = refused(lenet_jax(folder, "train", "-m", *arguments[:-2], "hydra.launcher._target_=mylab.hooks.Told"))
    assert re.match(r"`hydra\.launcher\._target_` must name a launcher of Hydra, in the namespace package ", message)


def test_an_optimizer_of_optax_is_named_like_any_other(folder):
    arguments = [*OWN, "optimizer._target_=optax.adam", "optimizer.learning_rate=0.01", "hydra.run.dir=optax"]
    check(lenet_jax(folder, "train", *arguments))
    recorded = json.loads((folder / "optax" / "run.json").read_text())["config"]["optimizer"]
    assert (recorded["_target_"], recorded["learning_rate"], recorded["b1"]) == ("optax.adam", 0.01, 0.9)
    message = refused(lenet_jax(folder, "train", *OWN, "optimizer._target_=optax.adam"))
    assert message == "`optimizer.learning_rate` must be given: optax.adam has no default for it."
    check(lenet_jax(folder, "verify", "optax", "--allow", "mylab", "--allow", "optax"))


def test_a_tracker_that_fails_costs_a_warning_on_the_terminal(folder):
    done = check(
        lenet_jax(folder, "train", *OWN, "trackers.lab._target_=mylab.trackers.failing", "hydra.run.dir=warned")
    )
    warnings = [line for line in done.stderr.splitlines() if line.startswith("lenet-jax: ")]
    assert warnings == ["lenet-jax: `trackers.lab` failed and gets no more events: RuntimeError: no connection"]


def test_the_summary_finds_modules_in_the_working_directory(folder):
    check(lenet_jax(folder, "summary", "model._target_=mylab.nets.layered", PYTHONPATH=""))
