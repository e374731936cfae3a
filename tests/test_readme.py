"""The README's library example runs as printed, and its commands are commands."""

import re
import shlex
from pathlib import Path

import jax
import pytest

from lenet_jax.hydra_app.composition import open_hydra, register_schemas
from lenet_jax.hydra_app.sweep import begin_sweep
from lenet_jax.hydra_app.sweep_jobs import check_run

pytestmark = pytest.mark.usefixtures("without_type_checks")

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


@pytest.mark.usefixtures("optimized")
@pytest.mark.parametrize(
    ("number", "prints"), [(0, r"test accuracy 9\d\."), (1, r"0\.[89]"), (2, r"\(4, 10\) \(4, 2\)")]
)
def test_the_library_examples_run_as_printed(number, prints, capsys):
    examples = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len(examples) == 3
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        exec(compile(examples[number], "README.md", "exec"), {})
    assert re.match(prints, capsys.readouterr().out)


def train_commands():
    blocks = "\n".join(re.findall(r"```sh\n(.*?)```", README, re.DOTALL))
    inline = "\n".join(re.findall(r"`(lenet-jax train[^`]*)`", README))
    lines = [line for line in (blocks + "\n" + inline).splitlines() if line.startswith("lenet-jax train")]
    return [line for line in lines if "--" not in line and "data=mnist" not in line and "experiment" not in line]


def experiment_commands():
    """Return the commands of experiments/, for data that are always there."""
    texts = [path.read_text().replace("\\\n", "") for path in sorted((ROOT / "experiments").glob("*/README.md"))]
    lines = [line.strip() for text in texts for line in text.splitlines()]
    return [f"{line} data=embedded" for line in lines if line.startswith("lenet-jax train")]


@pytest.mark.parametrize("command", train_commands() + experiment_commands())
def test_commands_compose_and_pass_all_checks(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments = shlex.split(command)[2:]
    overrides = [argument for argument in arguments if argument != "-m"]
    register_schemas()
    with open_hydra() as hydra:
        if "-m" in arguments:
            with begin_sweep(hydra, overrides) as (ledger, _):
                assert ledger.identity["arguments"] == overrides
        else:
            check_run(hydra, overrides)
