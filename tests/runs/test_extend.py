"""A finished run that is extended is the run that it would have been with more epochs, or it says why it is not."""

import json
from pathlib import Path

import jax
import pytest

import lenet_jax as lj
from lenet_jax.cli import main
from lenet_jax.environment import tune_environment
from lenet_jax.runs.checkpoints import newest_first
from lenet_jax.runs.extend import extend_run, prepare_extension
from lenet_jax.runs.run_directory import read_record
from lenet_jax.runs.trust import read_allowed
from lenet_jax.runs.verify import Verification, verify_run
from tests.runs.small import component, interrupted, make_config, run_whole

pytestmark = pytest.mark.usefixtures("without_type_checks")


@pytest.fixture(autouse=True)
def optax_may_promote_integers():
    """Its schedules and Adam divide numbers of steps by floats."""
    tune_environment()  # as the command does, whose runs are compared with others here
    with jax.numpy_dtype_promotion("standard"):
        yield


def config(max_epochs, keep_state=True, schedule="constant", **trainer):
    groups = {"schedule": component("schedule", schedule), "augment": component("augment", "affine")}
    optimizer = component("optimizer", "adam")
    return make_config(5, optimizer, groups=groups, max_epochs=max_epochs, keep_state=keep_state, **trainer)


def extend(parent, path, max_epochs, **options):
    return list(extend_run(prepare_extension(read_allowed(parent), max_epochs, **options), path))


def evaluations(record):
    return [{name: value for name, value in line.items() if name != "seconds"} for line in record.metrics]


TIMES = ("seconds", "compile_seconds", "images_per_second", "metrics_sha256")


def outcome(record):
    return {name: value for name, value in record.result.items() if name not in TIMES}


@pytest.mark.parametrize(
    ("schedule", "trainer"),
    [
        ("plateau", {}),
        pytest.param("constant", {"ema_decay": 0.9}, marks=pytest.mark.slow),
        pytest.param("step", {"clip_norm": 1.0}, marks=pytest.mark.slow),
    ],
)
def test_an_extended_run_is_the_longer_run_bit_for_bit(tmp_path, schedule, trainer):
    whole, parent, child, grandchild = (tmp_path / name for name in ("whole", "parent", "child", "grandchild"))
    run_whole(config(5, schedule=schedule, **trainer), whole)
    run_whole(config(2, schedule=schedule, **trainer), parent)
    before = {path: path.read_bytes() for path in parent.rglob("*") if path.is_file()}
    extend(parent, child, 3)
    extend(child, grandchild, 5, keep_state=False)
    one, other = read_record(whole), read_record(grandchild)
    assert outcome(other) == outcome(one)
    assert evaluations(other) == evaluations(one)
    assert len(other.metrics) == 5
    assert (grandchild / "checkpoints/best.safetensors").read_bytes() == (
        whole / "checkpoints/best.safetensors"
    ).read_bytes()
    assert newest_first(grandchild / "checkpoints") == []
    assert {path: path.read_bytes() for path in parent.rglob("*") if path.is_file()} == before
    recorded = other.run["parent"]
    assert (recorded["id"], recorded["epochs"]) == (read_record(child).run["id"], 3)
    assert recorded["state_sha256"] == read_record(child).result["state_sha256"]
    assert recorded["differs"] == ""
    assert other.run["id"] != read_record(child).run["id"]
    assert other.config.trainer.max_epochs == 5


def test_an_extended_run_can_be_verified(tmp_path):
    run_whole(config(1), tmp_path / "parent")
    extend(tmp_path / "parent", tmp_path / "child", 2)
    (verification,) = (e for e in verify_run(read_allowed(tmp_path / "child")) if isinstance(e, Verification))
    assert verification.identical


def test_a_schedule_that_depends_on_the_length_is_said(tmp_path):
    parent, child = tmp_path / "parent", tmp_path / "child"
    run_whole(config(1, schedule="cosine"), parent)
    extend(parent, child, 2)
    differs = read_record(child).run["parent"]["differs"]
    assert differs == ("the schedule, cosine, depends on trainer.max_epochs: the first 1 epochs had another one")
    with pytest.raises(lj.InputError, match="must hold a run that its configuration repeats; this one extends another"):
        next(verify_run(read_allowed(child)))
    assert prepare_extension(read_allowed(child), 3).differs == f"its parent was extended itself: {differs}"


@pytest.mark.usefixtures("in_an_empty_folder")
def test_an_extension_that_is_interrupted_is_resumed(monkeypatch, capsys):
    run_whole(config(3), Path("whole"))
    run_whole(config(1), Path("parent"))
    with interrupted(monkeypatch):
        assert main(["extend", "parent", "trainer.max_epochs=3"]) == 75
    assert capsys.readouterr().out.startswith(
        "extends parent to 3 epochs in parent-3-epochs\nbit for bit as a run of 3 epochs from the start\n"
    )
    assert main(["resume", "parent-3-epochs"]) == 0
    assert outcome(read_record(Path("parent-3-epochs"))) == outcome(read_record(Path("whole")))
    with open("parent-3-epochs/run.json") as file:
        assert [each["iteration"] for each in json.load(file)["resumed"]] == [4, 4]


@pytest.mark.usefixtures("in_an_empty_folder")
def test_an_extension_that_has_lost_its_state_does_not_begin_anew(monkeypatch, capsys):
    run_whole(config(1), Path("parent"))
    with interrupted(monkeypatch):
        assert main(["extend", "parent", "trainer.max_epochs=2", "--directory=child"]) == 75
    for path in newest_first(Path("child/checkpoints")):
        (path / "state.safetensors").write_bytes(b"")
    capsys.readouterr()
    assert main(["resume", "child"]) == 2
    assert "must have an intact checkpoint: it goes on from a state of" in capsys.readouterr().err


@pytest.mark.usefixtures("in_an_empty_folder")
def test_what_cannot_be_extended_is_refused(capsys):
    run_whole(config(1, keep_state=False), Path("forgotten"))
    run_whole(config(1), Path("kept"))
    run_whole(config(1), Path("damaged"))
    run_whole(config(9, early_stopping=lj.config.EarlyStoppingConfig(patience=6)), Path("patient"))
    state = newest_first(Path("damaged/checkpoints"))[0] / "state.safetensors"
    content = bytearray(state.read_bytes())
    content[-1] ^= 1
    state.write_bytes(content)
    Path("taken").mkdir()
    Path("taken/run.json").write_text("{}")
    for arguments, message in (
        (["kept"], "`trainer.max_epochs` must be given, the epochs of the parent included, an integer,"),
        (["kept", "trainer.max_epochs=many"], "got 'many'"),
        (["kept", "trainer.max_epochs=1"], "`trainer.max_epochs` must be above the 1 of kept; got 1"),
        (["kept", "seed=1"], "`extend` has no 'seed'; choose one of: trainer."),
        (["kept", "trainer.max_epochs=2", "trainer.keep_state=yes"], "must be true or false; got 'yes'"),
        (["kept", "trainer.max_epochs=2", "--directory=taken"], "must not hold a run yet; taken has run.json"),
        (["forgotten", "trainer.max_epochs=2"], "the last state of its run, which trainer.keep_state=true keeps"),
        (["damaged", "trainer.max_epochs=2"], "is damaged; it must have SHA-256"),
        (["patient", "trainer.max_epochs=20"], "has ended by patience, which more epochs do not change"),
        (["nowhere", "trainer.max_epochs=2"], "`DIR` must be the directory of a run"),
        ([], "extend: usage: lenet-jax extend DIR trainer.max_epochs=N"),
    ):  # fmt: skip
        assert main(["extend", *arguments]) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert err.count("\n") == 1
        assert message in err
    assert not list(Path().glob("*-epochs"))


@pytest.mark.usefixtures("in_an_empty_folder")
def test_resume_of_a_finished_run_that_kept_its_state_says_how_to_extend_it(capsys):
    run_whole(config(1), Path("kept"))
    assert main(["resume", "kept"]) == 0
    assert (
        capsys.readouterr().out.splitlines()[-1].endswith("To train longer: lenet-jax extend kept trainer.max_epochs=2")
    )
