"""What a directory may name: what the user has allowed, in any of four ways."""

import os

import pytest

from lenet_jax.config import Config, to_dict
from lenet_jax.config.catalogue import TARGET
from lenet_jax.errors import InputError
from lenet_jax.runs.trust import ALL, allowed_packages, complete_allowed, read_allowed, refuse_links
from lenet_jax.storage import dump_with_digest
from lenet_jax.sweeps.ledger import is_inside

pytestmark = pytest.mark.usefixtures("in_an_empty_folder")

OWN = Config(model={TARGET: "tests.linear.linear"})


def project(folder, text):
    (folder / "pyproject.toml").write_text(text)


def test_nothing_is_allowed_unless_the_user_says_so():
    assert allowed_packages() == frozenset()


def test_what_is_allowed_is_the_sum_of_what_is_given(tmp_path, monkeypatch):
    monkeypatch.setenv("LENET_JAX_ALLOW", "second,third  fourth")
    project(tmp_path, '[tool.lenet_jax]\nallow = ["fifth"]\n')
    assert allowed_packages(["first"]) == {"first", "second", "third", "fourth", "fifth"}
    assert allowed_packages(["first"], trust=True) == {ALL}


def test_the_project_is_the_nearest_one_above_the_working_directory(tmp_path, monkeypatch):
    inner = tmp_path / "inner" / "folder"
    inner.mkdir(parents=True)
    monkeypatch.chdir(inner)
    project(tmp_path, '[tool.lenet_jax]\nallow = ["outer"]\n')
    assert allowed_packages() == {"outer"}
    project(inner.parent, "[project]\nname = 'nearer'\n")
    assert allowed_packages() == frozenset()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[tool.lenet_jax\n", "must be TOML; "),
        ('[tool.lenet_jax]\nallow = "mylab"\n', "`tool.lenet_jax.allow` must be a list of package names; got 'mylab'."),
        ("[tool.lenet_jax]\nallow = [1]\n", "`tool.lenet_jax.allow` must be a list of package names; got [1]."),
        ("tool = 3\n", "`tool.lenet_jax` must be a table; got 3."),
        ("[tool]\nlenet_jax = 3\n", "`tool.lenet_jax` must be a table; got 3."),
    ],
)
def test_a_project_that_says_something_else_is_refused(text, message, tmp_path):
    project(tmp_path, text)
    with pytest.raises(InputError) as refused:
        allowed_packages()
    assert str(refused.value).startswith(f"{tmp_path / 'pyproject.toml'}: {message}")


def test_a_project_in_the_directory_that_is_read_allows_nothing(tmp_path):
    """Only that of the working directory counts: a run may bring a pyproject.toml along."""
    (tmp_path / "run").mkdir()
    project(tmp_path / "run", '[tool.lenet_jax]\nallow = ["tests"]\n')
    (tmp_path / "run" / "run.json").write_bytes(dump_with_digest({"config": to_dict(OWN)}))
    with pytest.raises(InputError, match=r"^`model` of .*run names code to run, 'tests\.linear\.linear'"):
        read_allowed(tmp_path / "run", allowed_packages())


def test_a_record_is_read_complete_if_its_packages_are_allowed(tmp_path):
    (tmp_path / "run.json").write_bytes(dump_with_digest({"config": to_dict(OWN)}))
    for allowed in (["tests"], [ALL], ["another", "tests"]):
        record = read_allowed(tmp_path, allowed)
        assert record.config.model == {TARGET: "tests.linear.linear"}
        assert record.config.optimizer["learning_rate"] == 0.1
    for allowed in ([], ["test"], ["tests.linear"], ["lenet_jax"]):
        with pytest.raises(InputError, match=r"--allow tests on this command, LENET_JAX_ALLOW=tests, or allow = "):
            read_allowed(tmp_path, allowed)


def test_what_is_allowed_is_checked_as_any_other():
    config = Config(optimizer={TARGET: "optax.sgd", "learning_rat": 0.1})
    with pytest.raises(InputError, match=r"^`optimizer` has no 'learning_rat'; choose one of: learning_rate, "):
        complete_allowed(config, ["optax"], "theirs")


@pytest.mark.parametrize("target", ["../mine", "/etc", "../run-beside/file"])
def test_a_link_that_leads_out_is_refused(target, tmp_path):
    directory = tmp_path / "run"
    (directory / "a").mkdir(parents=True)
    (tmp_path / "mine").mkdir()
    (directory / "a" / "link").symlink_to(os.path.join("..", target) if target.startswith("..") else target)
    with pytest.raises(InputError, match=rf"^{directory / 'a' / 'link'}: must not lead out of {directory}, to "):
        refuse_links(directory)


def test_a_link_inside_is_none_that_leads_out(tmp_path):
    directory = tmp_path / "run"
    directory.mkdir()
    (directory / "file").touch()
    (directory / "link").symlink_to("file")
    (tmp_path / "another").symlink_to(directory)
    refuse_links(directory)
    refuse_links(tmp_path / "another")


def test_what_no_command_writes_into_may_lead_anywhere(tmp_path):
    run, elsewhere = tmp_path / "run", tmp_path / "elsewhere"
    for folder in (run / ".venv" / "bin", run / "checkpoints", elsewhere):
        folder.mkdir(parents=True)
    (run / "run.json").write_text("{}")
    (run / ".venv" / "bin" / "python").symlink_to("/usr/bin/env")
    (run / "data").symlink_to(elsewhere)
    refuse_links(run)
    (run / "checkpoints" / "best.safetensors").symlink_to(elsewhere / "file")
    with pytest.raises(InputError, match="must not lead out of"):
        refuse_links(run)


def test_a_virtual_environment_beside_the_jobs_of_a_sweep_is_left_alone_and_none_of_its_jobs(tmp_path):
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / "sweep.json").write_text("{}")
    (tmp_path / ".venv" / "bin" / "python").symlink_to("/usr/bin/env")
    refuse_links(tmp_path)
    assert not is_inside(".venv/0")
    assert is_inside("0/.venv")


def test_what_lies_beside_the_jobs_of_a_sweep_is_left_alone(tmp_path):
    (tmp_path / "data").symlink_to("/")
    for name in ("sub/0", "jobs"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "plan.json").write_bytes(dump_with_digest({"jobs": [{"directory": "sub/0"}]}))
    (tmp_path / "sweep.json").write_bytes(dump_with_digest({"hydra": {"sweeper": {TARGET: "a.OptunaBatchSweeper"}}}))
    with pytest.raises(InputError, match="data: must not lead out of"):
        refuse_links(tmp_path)  # such a sweeper may choose that name for a job
    (tmp_path / "sweep.json").write_bytes(dump_with_digest({"hydra": {"sweeper": {TARGET: "a.GridSweeper"}}}))
    refuse_links(tmp_path)
    (tmp_path / "jobs" / "7.json").write_bytes(dump_with_digest({"directory": "data/tmp"}))
    with pytest.raises(InputError, match="data: must not lead out of"):
        refuse_links(tmp_path)
    (tmp_path / "jobs" / "7.json").unlink()
    for name in ("sub/0/checkpoints", "figures"):
        (tmp_path / name).symlink_to("/")
        with pytest.raises(InputError, match=f"{name}: must not lead out of"):
            refuse_links(tmp_path)
        (tmp_path / name).unlink()
