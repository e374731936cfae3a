"""The examples and commands of the documentation are run as a reader runs them, page by page."""

import shlex

import pytest

from lenet_jax.hydra_app.composition import compose, open_hydra, to_config
from lenet_jax.hydra_app.sweep_jobs import JobComposer, compose_jobs, known_jobs
from tests.conftest import ROOT
from tests.docs.pages import Block, blocks_of, run_block, script
from tests.terminal import terminal

DOCS = ROOT / "docs"
PAGES = {path.relative_to(ROOT).as_posix(): path for path in [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]}
BLOCKS = {name: blocks_of(path.read_text(encoding="utf-8")) for name, path in PAGES.items()}
TUTORIALS = ("docs/start.md", "docs/command-line.md")
GUIDES = [name for name in BLOCKS if BLOCKS[name] and name not in (*TUTORIALS, "README.md")]


def run_page(name, tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    run = terminal(folder, tmp_path / "bin")
    for block in BLOCKS[name]:
        failure = run_block(block, folder, run)
        assert not failure, f"{name}, {failure}"


@pytest.mark.parametrize("name", TUTORIALS)
def test_the_tutorials_run_as_printed(name, tmp_path):
    run_page(name, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", GUIDES)
def test_the_guides_run_as_printed(name, tmp_path):
    run_page(name, tmp_path)


@pytest.mark.slow
def test_the_blocks_of_the_readme_run_as_printed(tmp_path):
    run_page("README.md", tmp_path)  # those in `sh` have placeholders, and are checked by tests/test_readme.py


def train_commands():
    """Return the commands of the guides that need nothing of those before them."""
    texts = [script(block) for name in GUIDES for block in BLOCKS[name] if block.language == "bash"]
    lines = [line for text in texts for line in text.splitlines() if line.startswith("lenet-jax train ")]
    needs = ("_target_", "--config-dir", "init=", "data.directory=", "debug=")
    return sorted({line for line in lines if not any(part in line for part in needs)})


@pytest.mark.usefixtures("in_an_empty_folder")
def test_the_commands_of_the_guides_compose():
    commands = train_commands()
    assert len(commands) > 10
    for command in commands:
        words = [word for word in shlex.split(command)[2:] if not word.startswith("-")]
        with open_hydra() as hydra:
            if "-m" in shlex.split(command):
                base = compose(hydra, words, multirun=True)  # without its data, which this machine may not have
                jobs = known_jobs(base, hydra.config_loader)
                assert jobs is None or compose_jobs(JobComposer(hydra.config_loader, base), jobs)
            else:
                to_config(compose(hydra, words))


PAGE = """
<!-- tested with: trainer.max_epochs=1 data.train_size=9 -->

```python
# mylab/nets.py
width = 3
```

<!-- exit code: 2 -->
```bash
lenet-jax train trainer.max_epochs=3 \\
    seed=1 &
lenet-jax verify x
```

Text.

- A list:

  ```console
  $ echo one
  one
  ```

<!-- not run: it needs a GPU -->
```bash
false
```

```yaml
model: lenet
```
"""


def test_blocks_are_found_with_their_marks():
    first, second, third, last = blocks_of(PAGE)
    assert first.text == "# mylab/nets.py\nwidth = 3\n"
    assert second.marks == {"tested with": "trainer.max_epochs=1 data.train_size=9", "exit code": "2"}
    assert script(third) == "echo one\n"
    assert last.marks["not run"] == "it needs a GPU"
    assert PAGE.splitlines()[second.line] == "lenet-jax train trainer.max_epochs=3 \\"


def test_commands_are_shortened_unless_they_have_the_key():
    lines = script(blocks_of(PAGE)[1]).splitlines()
    assert shlex.split(lines[0]) == ["lenet-jax", "train", "trainer.max_epochs=3", "seed=1", "data.train_size=9", "&"]
    assert lines[1] == "lenet-jax verify x"


def test_an_unknown_mark_is_refused():
    with pytest.raises(ValueError, match="no mark of a block: 'skip'"):
        blocks_of("<!-- skip: no time -->\n```bash\ntrue\n```\n")


def test_a_block_is_written_or_run_and_its_failure_is_told(tmp_path):
    run = terminal(tmp_path, tmp_path / "bin")
    assert run_block(Block("python", "# mylab/nets.py\nwidth = 3\n", 1, {}), tmp_path, run) == ""
    assert run_block(Block("python", "from mylab.nets import width\nassert width == 3\n", 1, {}), tmp_path, run) == ""
    assert "line 7: exit code 3" in run_block(Block("bash", "exit 3\n", 7, {}), tmp_path, run)
    assert run_block(Block("bash", "exit 3\n", 7, {"exit code": "3"}), tmp_path, run) == ""
    assert run_block(Block("bash", "exit 3\n", 7, {"not run": "it fails"}), tmp_path, run) == ""
