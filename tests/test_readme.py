"""The library examples of the README and of docs/library.md run as printed, and the README's commands are commands."""

import re
import shlex
from pathlib import Path

import jax
import pytest

from lenet_jax import cli
from lenet_jax.hydra_app.composition import compose, open_hydra, to_config
from lenet_jax.hydra_app.sweep import start_sweep
from lenet_jax.runs.prepared_run import prepare_run

pytestmark = pytest.mark.usefixtures("without_type_checks")

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
PAGES = {name: (ROOT / name).read_text() for name in ("README.md", "docs/library.md")}
EXAMPLES = {name: re.findall(r"```python\n(.*?)```", text, re.DOTALL) for name, text in PAGES.items()}
OWN_MODEL = EXAMPLES["README.md"][0]
RUNS = r"(?s).*\n0\.[89].*best run: job.*Job\(\d.* Run\('outputs/tiny', .* Sweep\('multirun/tiny', 4 of 4"


def test_every_example_is_run_here():
    assert [len(examples) for examples in EXAMPLES.values()] == [3, 4]
    assert OWN_MODEL.startswith("# mylab/nets.py\n")


@pytest.mark.usefixtures("optimized", "own_model", "in_an_empty_folder")
@pytest.mark.parametrize(
    ("page", "number", "prints"),
    [
        ("README.md", 1, RUNS),
        ("README.md", 2, r"test accuracy 9\d\."),
        pytest.param("docs/library.md", 0, r"mean absolute error 0\.0", marks=pytest.mark.slow),
        ("docs/library.md", 1, r"0\.[89]"),
        ("docs/library.md", 2, r"\(4, 10\) \(4, 2\)"),
        pytest.param("docs/library.md", 3, RUNS, marks=pytest.mark.slow),  # nearly that of the README
    ],
)
def test_the_library_examples_run_as_printed(page, number, prints, capsys):
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        exec(compile(EXAMPLES[page][number], page, "exec"), {})
    assert re.match(prints, capsys.readouterr().out)


def test_the_links_of_the_readme_lead_to_files_and_sections():
    links = [link for link in re.findall(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)", README) if "://" not in link]
    links += re.findall(r'<img src="([^"]+)"', README)
    assert len(links) > 30
    for path, _, anchor in (link.partition("#") for link in links):
        assert (ROOT / path).is_file(), path
        titles = re.findall(r"^#+ (.+)$", (ROOT / path).read_text(), re.MULTILINE) if anchor else []
        assert not anchor or anchor in {title.lower().replace(" ", "-") for title in titles}, (path, anchor)


def train_commands():
    blocks = "\n".join(re.findall(r"```sh\n(.*?)```", README, re.DOTALL))
    inline = "\n".join(re.findall(r"`(lenet-jax train[^`]*)`", README))
    lines = [line for line in (blocks + "\n" + inline).splitlines() if line.startswith("lenet-jax train")]
    return [line for line in lines if "--" not in line and "data=mnist" not in line and "experiment" not in line]


def experiment_commands():
    """Return the commands of experiments/, for data that are always there."""
    pages = sorted((ROOT / "experiments").glob("*/README.md"))
    reproduced = [path for path in pages if path.parent.name != "own_project"]  # it has its own folder of configuration
    texts = [path.read_text().replace("\\\n", "") for path in reproduced]
    lines = [line.strip() for text in texts for line in text.splitlines()]
    return [f"{line} data=embedded" for line in lines if line.startswith("lenet-jax train")]


@pytest.fixture
def own_model(tmp_path, monkeypatch):
    """An empty folder with the README's own model in it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "mylab").mkdir()
    (tmp_path / "mylab" / "nets.py").write_text(OWN_MODEL)


@pytest.mark.usefixtures("own_model", "in_an_empty_folder")
@pytest.mark.parametrize("command", train_commands() + experiment_commands())
def test_commands_compose_and_pass_all_checks(command):
    arguments = shlex.split(command)[2:]
    overrides = [argument for argument in arguments if argument != "-m"]
    with open_hydra() as hydra:
        if "-m" in arguments:
            with start_sweep(hydra, overrides) as sweep:
                assert sweep.ledger.identity["arguments"] == overrides
        else:
            prepare_run(to_config(compose(hydra, overrides)))


@pytest.mark.usefixtures("own_model", "in_an_empty_folder")
def test_the_own_model_is_swept_and_needs_leave_to_be_verified(capsys):
    (command,) = (line for line in train_commands() if "mylab" in line)
    short = ["trainer.max_epochs=1", "data.train_size=100", "hydra.sweep.dir=sweep"]
    assert cli.main([*shlex.split(command)[1:], *short]) == 0
    assert "4 jobs: 4 done" in capsys.readouterr().out
    assert cli.main(["verify", "sweep/0"]) == 2
    assert "--allow mylab" in capsys.readouterr().err
    assert cli.main(["verify", "sweep/0", "--allow", "mylab"]) == 0
