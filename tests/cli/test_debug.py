import json
import re
from pathlib import Path

import numpy as np
import pytest

import lenet_jax as lj
from lenet_jax.cli import main
from lenet_jax.errors import InputError
from lenet_jax.hydra_app.debug_modes import MODES

SMALL = ["model.num_kernels=[2,3]", "model.hidden_units=10"]

pytestmark = pytest.mark.usefixtures("in_an_empty_folder")


def refuse(capsys, *arguments):
    """Run a command that must be refused with one line, before anything is written; return the line."""
    assert main(["train", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert list(Path.cwd().iterdir()) == []
    return err.removeprefix("lenet-jax: ").rstrip("\n")


@pytest.mark.parametrize(("batch_size", "steps", "examples"), [("30", 2, 60), ("null", 1, 100)])
def test_a_fast_run_does_everything_once(batch_size, steps, examples):
    assert main(["train", "debug=fast", *SMALL, f"trainer.batch_size={batch_size}"]) == 0
    (directory,) = Path("outputs/debug").iterdir()
    result = json.loads((directory / "result.json").read_text())
    run = json.loads((directory / "run.json").read_text())
    assert (result["epochs"], result["iterations"]) == (1, steps)
    assert run["config"]["data"]["train_size"] == examples
    assert [path.name for path in (directory / "checkpoints").iterdir()] == ["best.safetensors"]


def test_a_fast_run_takes_overrides_and_wins_against_an_experiment(capsys):
    assert main(["train", "--cfg", "job", "experiment=lenet5_1998", "debug=fast"]) == 0
    assert "max_epochs: 1\n" in capsys.readouterr().out
    assert main(["train", "--cfg", "job", "debug=fast", "trainer.max_epochs=2"]) == 0
    assert "max_epochs: 2\n" in capsys.readouterr().out


def test_fast_jobs_of_a_sweep_are_below_the_same_folder():
    assert main(["train", "-m", "debug=fast", "seed=0,1", *SMALL]) == 0
    (directory,) = Path("outputs/debug").iterdir()
    assert (directory / "sweep.json").is_file()


def test_an_unknown_name_is_refused_with_the_others(capsys):
    assert refuse(capsys, "debug=fats").startswith("`debug` has no 'fats'; choose one of: fast, ")


@pytest.mark.parametrize("mode", MODES)
def test_a_mode_is_one_run_by_the_command(mode, capsys):
    named = f"`debug` must be none or fast here: {mode} needs"
    assert refuse(capsys, "-m", f"debug={mode}", "seed=0,1") == f"{named} one run, without -m."
    assert refuse(capsys, "-m", f"debug=fast,{mode}") == f"{named} one run, without -m."
    assert refuse(capsys, "--dry-run", f"debug={mode}") == f"{named} no --dry-run."
    with pytest.raises(InputError, match=named):
        lj.run([f"debug={mode}"], progress=False)
    assert list(Path.cwd().iterdir()) == []


MODULE = """
import flax.linen as nn
import jax.numpy as jnp

import lenet_jax as lj
from lenet_jax import layers
from jax.nn.initializers import he_normal


def blind():
    return lj.Objective(lambda outputs, targets: jnp.ones(targets.shape) + 0 * outputs[:, 0], {}, "loss", "min")


def with_logarithm(*, input_shape, num_outputs):
    stages = {
        "flatten": layers.flatten(),
        "hidden": layers.dense(5, he_normal()),
        "logarithm": layers.function(jnp.log),
        "out": layers.dense(num_outputs, he_normal()),
    }
    return layers.make_model(layers.serial(stages), input_shape)


class WithRoot(nn.Module):
    num_outputs: int

    @nn.compact
    def __call__(self, x):
        x = nn.Dense(self.num_outputs)(x.reshape(x.shape[0], -1))
        return jnp.sqrt(jnp.maximum(x, 0.0))
"""


def test_a_sound_model_overfits_a_minibatch(capsys):
    assert main(["train", "debug=overfit", *SMALL, "experiment=lenet5_1998", "model=lenet", "data=embedded"]) == 0
    first, *_, last, end = capsys.readouterr().out.splitlines()
    assert first == "step    0  loss 2.302585"  # ln 10: all outputs of LeNet begin at 0
    assert float(last.split()[-1]) <= 0.02302585
    assert end == "The loss on one minibatch is near zero: at most 0.023026, 1% of the first."
    assert list(Path.cwd().iterdir()) == []


def test_an_objective_that_does_not_look_at_the_outputs_fails(capsys):
    Path("blind_module.py").write_text(MODULE)
    assert main(["train", "debug=overfit", *SMALL, "objective._target_=blind_module.blind"]) == 1
    out, err = capsys.readouterr()
    assert out.splitlines()[-1] == "step 2000  loss 1.000000"
    assert err.startswith("lenet-jax: the loss on one minibatch is 1.000000 after 2,000 steps, not at most 0.010000")
    assert err.count("\n") == 1


def test_a_run_whose_values_are_finite_says_so(capsys):
    assert main(["train", "debug=nan", "data.train_size=100", *SMALL]) == 0
    assert capsys.readouterr().out == "2 steps: all values were finite\n"
    assert list(Path.cwd().iterdir()) == []


def test_the_first_layer_whose_output_is_not_finite_is_named(capsys):
    """Of 50 x 5 normal values about half are negative, and have no logarithm."""
    Path("layer_module.py").write_text(MODULE)
    assert main(["train", "debug=nan", "model._target_=layer_module.with_logarithm"]) == 1
    assert re.fullmatch(
        r"lenet-jax: step 1: the output of layer logarithm is not finite: \d+ of 250 values are NaN or infinite; and 1 "
        r"more like it\n",
        capsys.readouterr().err,
    )


def test_without_layers_the_gradient_is_named_by_its_path(capsys):
    """The square root has an infinite slope at 0, which times the slope 0 of the maximum is NaN."""
    Path("flax_module.py").write_text(MODULE)
    assert main(["train", "debug=nan", "model._target_=flax_module.WithRoot"]) == 1
    assert capsys.readouterr().err.startswith("lenet-jax: step 1: the gradient of Dense_0/bias is not finite: ")


def test_a_step_that_a_run_refuses_is_named_although_the_values_fit_in_float32(capsys):
    diverging = ["optimizer.learning_rate=1e38", "data.train_size=100", *SMALL]
    assert main(["train", "debug=nan", *diverging]) == 1
    assert "step 1: the updated parameter softmax/bias" in capsys.readouterr().err
    assert main(["train", *diverging, "hydra.run.dir=run"]) == 1
    assert json.loads(Path("run/result.json").read_text())["iterations"] == 0


def test_a_profile_is_a_table_of_the_parts_of_a_step_and_a_trace(capsys):
    assert main(["train", "debug=profile", "data.train_size=100", *SMALL]) == 0
    head, *rows = capsys.readouterr().out.splitlines()
    assert re.split(r"  +", head) == ["part", "milliseconds", "of a step", "compilation, s"]
    cells = [row.split() for row in rows[:6]]
    assert [row[0] for row in cells] == ["data", "forward", "backward", "optimizer", "step", "evaluation"]
    assert cells[4][2] == "100%"
    assert all(float(row[1]) >= 0 and float(row[-1]) > 0 for row in cells)
    (directory,) = Path("outputs/debug").iterdir()
    assert rows[-1] == f"trace: {directory / 'profile'}"
    assert len(list(directory.glob("profile/plugins/profile/*/*.xplane.pb"))) == 1
    assert not (directory / "run.json").exists()


def test_the_range_test_is_a_table_a_figure_and_a_rate(capsys):
    assert main(["train", "debug=lr_find", "data.train_size=200", "schedule=cosine", *SMALL]) == 0
    head, *rows, _, suggestion, figure = capsys.readouterr().out.splitlines()
    assert head.split() == ["learning", "rate", "loss"]
    losses = {cells[0]: float(cells[1]) for cells in map(str.split, rows) if cells[1] != "diverged"}
    best = min(losses, key=lambda rate: losses[rate])
    assert [row.split()[0] for row in rows if row.endswith("*")] == [best]
    third = float(re.match(r"suggested: optimizer.learning_rate=([\d.e-]+), ", suggestion)[1])
    assert third == pytest.approx(float(best) / 3, rel=0.05)
    assert suggestion.endswith(f", a third of {best}, which has the lowest loss")
    assert Path(figure.removeprefix("figure: ")).read_bytes().startswith(b"\x89PNG")


def test_an_optimizer_without_a_learning_rate_is_refused(capsys):
    overrides = ["optimizer=scaled_conjugate_gradient", "trainer.batch_size=null"]
    assert refuse(capsys, "debug=lr_find", *overrides) == (
        "`optimizer` must have an option learning_rate for debug=lr_find, a number that the program can vary; got "
        "scaled_conjugate_gradient; choose another, as optimizer=sgd."
    )


def test_runs_that_all_diverge_have_no_suggestion(capsys, monkeypatch):
    monkeypatch.setattr("lenet_jax.runs.learning_rates.RATES", np.array([1e37, 1e38]))
    assert main(["train", "debug=lr_find", "data.train_size=200", *SMALL]) == 1
    out, err = capsys.readouterr()
    assert out.count("diverged") == 2
    assert err == "lenet-jax: all runs diverged, also that at the lowest rate, 1e+37\n"
