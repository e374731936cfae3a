"""`lenet-jax new NAME` writes a project that runs as it is; its template is `experiments/own_project`."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from lenet_jax.cli import main
from lenet_jax.cli.new import FILES
from tests.conftest import ROOT
from tests.terminal import terminal

pytestmark = pytest.mark.usefixtures("in_an_empty_folder")

EXAMPLE = ROOT / "experiments" / "own_project"
JUNK = {"__pycache__", ".pytest_cache", "outputs"}


def texts(folder):
    paths = [path.relative_to(folder) for path in folder.rglob("*") if path.is_file()]
    return {str(path): (folder / path).read_text() for path in paths if not JUNK & set(path.parts)}


def test_the_example_is_what_is_written_under_its_name(tmp_path):
    assert main(["new", "tides"]) == 0
    assert texts(tmp_path / "tides") == texts(EXAMPLE)
    assert set(texts(EXAMPLE)) == set(FILES)


def test_another_name_is_put_everywhere(tmp_path):
    assert main(["new", "mylab"]) == 0
    written = texts(tmp_path / "mylab")
    assert {"mylab/nets.py", "tests/test_mylab.py", "conf/experiment/first.yaml"} <= set(written)
    assert [name for name, text in written.items() if "tides" in name + text] == []
    assert written["pyproject.toml"].count('allow = ["mylab"]') == 1


def test_the_line_in_the_readme_writes_a_project_trains_it_and_passes_its_tests(tmp_path):
    (line,) = re.findall(r"^lenet-jax new tides && .*$", (ROOT / "README.md").read_text(), re.MULTILINE)
    code, out, err = terminal(tmp_path, tmp_path / "bin")(line)
    assert (code, err) == (0, "")
    assert "\ncd tides && lenet-jax train --config-dir conf experiment=first\n" in out
    assert re.search(r"^test error +0\.", out, re.MULTILINE)
    assert "2 passed" in out


@pytest.mark.parametrize("part", ["of the user", "of another user"])
def test_a_module_of_a_user_does_not_outlive_its_test(part, tmp_path):
    (tmp_path / "anylab").mkdir()
    (tmp_path / "anylab" / "nets.py").write_text("def net(*, input_shape, num_outputs):\n    return None\n")
    assert main(["train", "model._target_=anylab.nets.net", "model.depth=3", "--dry-run"]) == 2
    folders = {Path(place).parent for place in sys.modules["anylab"].__path__}
    assert folders == {tmp_path}


NAMES = {
    "be the name of a Python package: letters, digits and _, a letter first, no keyword": [
        *("", "1lab", "my-lab", "my.lab", "a/b", "../lab", "_lab", "class", "gr\u00f6\u00dfe", "my lab"),
    ],
    "not be that of a module that Python has already, which `import` would find in its place": [
        *("jax", "json", "lenet_jax", "numpy", "hydra_plugins"),
    ],
    "not be that of a folder beside the package, conf, outputs, tests": ["conf", "outputs", "tests"],
}


@pytest.mark.parametrize(("rule", "name"), [(rule, name) for rule, names in NAMES.items() for name in names])
def test_a_name_that_no_package_can_have_is_refused(rule, name, capsys, tmp_path):
    assert main(["new", name]) == 2
    message = f"lenet-jax: new: `NAME` must {rule}; got {name!r}; choose another, as mylab.\n"
    assert capsys.readouterr() == ("", message)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["folder", "file", "link"])
def test_what_exists_is_left_alone(kind, capsys, tmp_path):
    path = tmp_path / "mylab"
    {"folder": path.mkdir, "file": path.touch, "link": lambda: path.symlink_to("nowhere")}[kind]()
    assert main(["new", "mylab"]) == 2
    message = "lenet-jax: new: `NAME` must not exist yet; mylab does; choose another name or folder.\n"
    assert capsys.readouterr() == ("", message)
    assert list(tmp_path.rglob("*")) == [path]


@pytest.mark.parametrize("arguments", [[], ["a", "b"], ["--name"]])
def test_other_arguments_get_the_usage(arguments, capsys, tmp_path):
    assert main(["new", *arguments]) == 2
    usage = "lenet-jax: new: usage: lenet-jax new NAME, the folder to write and the package in it\n"
    assert capsys.readouterr() == ("", usage)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_one_line(capsys, monkeypatch):
    def full(*arguments, **options):
        raise OSError(28, "No space left on device", "mylab/README.md")

    monkeypatch.setattr("pathlib.Path.write_text", full)
    assert main(["new", "mylab"]) == 2
    message = "lenet-jax: new: mylab/README.md cannot be written (No space left on device); choose another folder.\n"
    assert capsys.readouterr() == ("", message)


def test_it_answers_without_jax():
    code = "import sys; from lenet_jax.cli import main; main(['new', 'mylab']); print('jax' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("\nFalse\n")
