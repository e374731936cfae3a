"""What is recorded of a user's own code, from the command line: verify and resume name the file that has changed."""

import hashlib
import json
import shutil
import subprocess

import pytest

from tests.hydra_app.test_own_code import SMALL, check, lenet_jax, refused
from tests.runs.projects import commit, write

NETS = """
    from jax.nn.initializers import he_normal
    from lenet_jax import layers
    from mylab.helper import width

    def tiny(*, input_shape, num_outputs):
        stages = {
            "flatten": layers.flatten(),
            "hidden": layers.dense(width, he_normal()),
            "relu": layers.activation("relu"),
            "out": layers.dense(num_outputs, he_normal()),
        }
        return layers.make_model(layers.serial(stages), input_shape)
"""
OWN = ["model._target_=mylab.nets.tiny", *SMALL]
ALLOW = ["--allow", "mylab"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A project with a helper that is not committed, a run and a sweep in it."""
    folder = tmp_path_factory.mktemp("user") / "project"
    write(folder, {"mylab/nets.py": NETS, "mylab/unrelated.py": "# One.\n", "mylab/helper.py": "width = 8\n"})
    commit(folder, "mylab/nets.py", "mylab/unrelated.py")
    check(lenet_jax(folder, "train", *OWN, "hydra.run.dir=run"))
    return folder


@pytest.fixture
def changed(folder):
    """The same, with another activation in the model."""
    write(folder, {"mylab/nets.py": NETS.replace('activation("relu")', 'activation("tanh")')})
    yield folder
    write(folder, {"mylab/nets.py": NETS})


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_modules_project_and_patch_are_recorded(folder, tmp_path):
    code = json.loads((folder / "run" / "run.json").read_text())["code"]
    recorded = {each["file"]: each["sha256"] for each in code["modules"].values()}
    assert recorded == {name: digest(folder / name) for name in ("mylab/helper.py", "mylab/nets.py")}
    patch = folder / "run" / "code.patch"
    assert code["project"]["patch"] == {
        "file": "code.patch", "bytes": patch.stat().st_size, "cut": False, "sha256": digest(patch)
    }  # fmt: skip
    subprocess.run(["git", "clone", "-q", str(folder), str(tmp_path / "clean")], check=True)
    subprocess.run(["git", "-C", str(tmp_path / "clean"), "apply", str(patch)], check=True)
    assert {name: digest(tmp_path / "clean" / name) for name in recorded} == recorded


def test_a_file_that_is_not_imported_may_change(folder):
    write(folder, {"mylab/unrelated.py": "# Two.\n"})
    done = check(lenet_jax(folder, "verify", "run", *ALLOW))
    assert "changed since     nothing that is recorded\nidentical" in done.stdout


def test_verify_names_the_file_that_has_changed(changed):
    done = check(lenet_jax(changed, "verify", "run", *ALLOW), 1)
    lines = [line for line in done.stdout.splitlines() if line.startswith("changed since")]
    assert [line.split(": ")[0] for line in lines] == ["changed since     code.modules.mylab/nets.py"]
    assert "\ndifferent         largest difference " in done.stdout


def test_resume_is_refused_by_one_line_that_names_the_file(changed):
    shutil.copytree(changed / "run", changed / "interrupted")
    (changed / "interrupted" / "result.json").unlink()
    message = refused(lenet_jax(changed, "resume", "interrupted", *ALLOW))
    assert message.startswith("`code.modules.mylab/nets.py` has changed since the run began, from '")
    assert message.endswith("'; use --allow-changed to resume anyway.")
    check(lenet_jax(changed, "resume", "interrupted", *ALLOW, "--allow-changed"))


@pytest.mark.parametrize("launcher", ["lanes", pytest.param("joblib", marks=pytest.mark.slow)])
def test_a_sweep_is_resumed_with_its_code_only(launcher, folder):
    directory = folder / f"sweep-{launcher}"
    arguments = [f"hydra/launcher={launcher}", f"hydra.sweep.dir={directory}", "seed=0,1"]
    check(lenet_jax(folder, "train", "-m", *OWN, *arguments))
    code = json.loads((directory / "sweep.json").read_text())["code"]
    assert [each["file"] for each in code["modules"].values()] == ["mylab/helper.py", "mylab/nets.py"]
    assert digest(directory / "code.patch") == digest(directory / "1" / "code.patch")
    assert code == json.loads((directory / "1" / "run.json").read_text())["code"]
    (directory / "jobs" / "1.json").unlink()
    write(folder, {"mylab/helper.py": "width = 9\n"})
    message = refused(lenet_jax(folder, "resume", str(directory), *ALLOW))
    assert message.startswith("`code.modules.mylab/helper.py` has changed since the sweep began, from '")
    write(folder, {"mylab/helper.py": "width = 8\n"})
    check(lenet_jax(folder, "resume", str(directory), *ALLOW))


def test_another_processor_or_other_random_numbers_are_not_resumed(folder):
    shutil.copytree(folder / "run", folder / "moved")
    (folder / "moved" / "result.json").unlink()
    message = refused(lenet_jax(folder, "resume", "moved", *ALLOW, JAX_DEFAULT_PRNG_IMPL="rbg"))
    assert message == (
        "`settings.jax_default_prng_impl` has changed since the run began, from 'threefry2x32' to 'rbg'; use "
        "--allow-changed to resume anyway."
    )
    path = folder / "moved" / "run.json"
    recorded = json.loads(path.read_text())
    del recorded["sha256"]
    recorded["platform"]["machine"] = "another"
    path.write_text(json.dumps(recorded))
    message = refused(lenet_jax(folder, "resume", "moved", *ALLOW))
    assert message.startswith("`platform.machine` has changed since the run began, from 'another' to '")
