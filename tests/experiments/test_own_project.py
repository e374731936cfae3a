"""A project of a user's own: the commands of its README do what it says, and changed code is refused."""

import re
import shutil

import pytest

from tests.conftest import ROOT
from tests.terminal import terminal

TRAIN = "lenet-jax train --config-dir conf experiment=first"


@pytest.fixture
def project(tmp_path):
    """A copy of the project, and a function that runs lines in it."""
    folder = tmp_path / "tides"
    unwanted = shutil.ignore_patterns("__pycache__", ".pytest_cache", "outputs")
    shutil.copytree(ROOT / "experiments" / "own_project", folder, ignore=unwanted)
    return folder, terminal(folder, tmp_path / "bin")


@pytest.mark.slow
def test_the_commands_of_its_readme_do_what_it_says(project):
    folder, run = project
    text = (folder / "README.md").read_text()
    sections = dict(re.findall(r"^## (.*?)\n.*?```sh\n(.*?)```", text, re.DOTALL | re.MULTILINE))
    assert len(sections) == text.count("```sh") == 4
    printed = {}
    for title, block in sections.items():
        code, printed[title], err = run(block)
        assert code == 0, f"{title}: {printed[title]}{err}"
    outputs = folder / "outputs"

    looked = printed["Look at the run"]
    assert "changed since     nothing that is recorded\nidentical         6 evaluations" in looked
    assert len(set(re.findall(r"^test error\s+(\S+)$", looked, re.MULTILINE))) == 2  # of two data sets
    lines = (outputs / "run" / "errors.txt").read_text().splitlines()
    assert [line.split(":")[0] for line in lines] == [f"epoch {number}" for number in range(1, 7)]
    assert (outputs / "run" / "index.html").is_file()

    assert "12 jobs; 1 program is compiled\n" in printed["Sweep"]
    assert printed["Sweep"].count("12 jobs: 12 done") == 2
    errors = {(outputs / "sweep" / str(number) / "errors.txt").read_text() for number in range(12)}
    assert len(errors) == 12  # the dropout rate and the seed have an effect

    assert "12 jobs: 12 done" in printed["Resume after kill -9"]
    for number in range(12):
        killed, whole = ((outputs / name / str(number) / "errors.txt").read_text() for name in ("killed", "sweep"))
        assert killed == whole


def test_changed_code_is_named_and_code_that_is_not_allowed_is_refused(project):
    folder, run = project
    code, _, err = run(f"{TRAIN} trainer.max_epochs=1 hydra.run.dir=outputs/run")
    assert (code, err) == (0, "")
    code, _, err = run(
        f"{TRAIN} trainer.max_epochs=100000 hydra.run.dir=outputs/killed &\n"
        "until [ -s outputs/killed/errors.txt ]; do sleep 0.1; done; kill -9 $!"
    )
    assert (code, err) == (0, "")
    nets = folder / "tides" / "nets.py"
    nets.write_text(nets.read_text().replace("nn.relu(nn.Conv", "nn.tanh(nn.Conv"))

    code, out, err = run("lenet-jax verify outputs/run")
    assert (code, err) == (1, "")
    assert "changed since     code.modules.tides/nets.py: " in out
    assert "\ndifferent " in out

    code, out, err = run("lenet-jax resume outputs/killed")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "code.modules.tides/nets.py" in err

    settings = folder / "pyproject.toml"
    settings.write_text(settings.read_text().replace('allow = ["tides"]', ""))
    code, out, err = run("lenet-jax verify outputs/run")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("lenet-jax: `model` of outputs/run names code to run, 'tides.nets.TideNet'; ")
    assert "--allow tides" in err
