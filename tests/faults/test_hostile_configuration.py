"""No configuration runs code, sets variables, or writes outside its folder."""

import copy
import os
import unicodedata
from functools import partial
from pathlib import Path

import pytest
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from lenet_jax import cli
from lenet_jax.cli import main
from lenet_jax.errors import InputError
from lenet_jax.hydra_app import composition
from lenet_jax.hydra_app.checks_composed import check_composed
from lenet_jax.hydra_app.names import check_name, check_subdirectory
from lenet_jax.hydra_app.overrides import check_overrides
from tests.faults import fuzz_overrides
from tests.faults.hostile import HARMLESS, LOGGING, NAMES, REFUSED, REFUSED_COMMANDS, SENTINEL

OUTSIDE = ("..", "../x", "a/../../x", "/tmp/lenet-jax-hostile", "./../x", "a/b/../../../x", "~/../x", "//x")
IDENTITY = ("base", "code", "versions")


@pytest.fixture(autouse=True)
def nothing_is_trained(in_an_empty_folder, monkeypatch, tmp_path):
    """Have runs and sweeps end where training would begin; whatever else is written or set is found."""
    folder = tmp_path / "folder"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setattr(cli, "_job", lambda composed: 0)
    monkeypatch.setattr("lenet_jax.sweeps.groups.run_jobs", lambda *arguments, **options: iter(()))
    monkeypatch.setattr(cli, "_report_sweep", lambda ledger: None)
    monkeypatch.setattr("lenet_jax.runs.driver.check_inputs", lambda config: None)  # looks at the data
    monkeypatch.setattr(
        "lenet_jax.hydra_app.sweep._describe", lambda *arguments: {name: {} for name in IDENTITY} | {"data": []}
    )
    variables = dict(os.environ)
    yield
    assert not list(tmp_path.rglob(SENTINEL))
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]
    changed = {name for name in {*os.environ, *variables} if os.environ.get(name) != variables.get(name)}
    assert changed <= {"TF_CPP_MIN_LOG_LEVEL", "XLA_FLAGS", "JAX_NUM_CPU_DEVICES", "PYTEST_CURRENT_TEST"}


def run(capsys, *arguments):
    """Return the exit code of a command; what it says is one line if it is refused."""
    code = main(arguments)
    err = capsys.readouterr().err
    if code == 2:
        assert err.startswith("lenet-jax: ")
        assert len(err.splitlines()) == err.count("\n") == 1
    return code


@pytest.fixture(scope="module")
def base():
    """What is composed without overrides."""
    return fuzz_overrides.base()


def check(base, *overrides):
    """Check overrides, and what they make of a composition, without the time that reading the files takes."""
    parsed = OverridesParser.create().parse_overrides(list(overrides))
    check_overrides(parsed)
    composed = copy.deepcopy(base)
    ConfigLoaderImpl._apply_overrides_to_config(parsed, composed)
    check_composed(composed)


GROUPS = [each for each in REFUSED if "/" in each.partition("=")[0] or "@" in each or each.startswith("model=")]
OTHERS = [override for override in REFUSED if override not in GROUPS]


@pytest.mark.parametrize("override", [*GROUPS, *OTHERS[::3], *LOGGING[::12]], ids=ascii)
def test_code_by_any_door_is_refused_in_one_line(override, capsys, tmp_path):
    assert run(capsys, "train", override) == 2
    assert list((tmp_path / "folder").iterdir()) == []


@pytest.mark.parametrize("override", OTHERS, ids=ascii)
def test_code_by_any_door_is_refused_by_the_checks_or_by_hydra(override, base):
    with pytest.raises((InputError, HydraException, OmegaConfBaseException)):
        check(base, override)


@pytest.mark.parametrize("override", LOGGING, ids=ascii)
def test_loggers_are_those_of_the_standard_library_and_write_beside_the_run(override, base):
    with pytest.raises(InputError, match=r"^`hydra\.(job|hydra)_logging\..+` must .*; got |`.*` must not be given"):
        check(base, override)


@pytest.mark.parametrize("arguments", REFUSED_COMMANDS, ids=ascii)
def test_options_and_sweeps_are_refused_as_well(arguments, capsys, tmp_path):
    assert run(capsys, "train", *arguments) == 2
    assert list((tmp_path / "folder").iterdir()) == []


@pytest.mark.parametrize("override", HARMLESS, ids=ascii)
def test_what_is_no_more_than_a_text_does_nothing(override, base, capsys):
    if "logging" in override or "hydra.job.name" in override or "subdir" in override:
        assert run(capsys, "train", override) == 0
    elif "/" in override.partition("=")[0]:
        assert composition.compose_config([override]) == composition.compose_config([])
    else:
        check(base, override)


def in_quotes(name):
    return "'{}'".format(name.replace("'", "\\'"))


# A fifth of the names with one of the keys by the command line, all of them with all keys by the checks alone.
KEYS = ("hydra.run.dir", "hydra.job.name", "hydra.sweep.subdir")
PAIRS = [(KEYS[number % 3], name) for number, name in enumerate(NAMES[2::5])]
PAIRS = [(key, name) for key, name in PAIRS if key != "hydra.run.dir" or name not in OUTSIDE]  # the user may choose any


@pytest.mark.parametrize(("key", "name"), PAIRS, ids=lambda text: ascii(text)[:40])
def test_a_hostile_name_is_refused_or_stays_inside(key, name, capsys, tmp_path):
    sweep = ["-m", "seed=1", "hydra.sweep.dir=sweep"] if key == "hydra.sweep.subdir" else []
    assert run(capsys, "train", *sweep, f"{key}={in_quotes(name)}") in ((1, 2) if sweep else (0, 2))


def refusal(rule, name):
    try:
        rule(name)
    except InputError as error:
        return str(error)
    return None


@pytest.mark.parametrize("name", NAMES, ids=lambda name: ascii(name)[:40])
def test_any_name_is_refused_in_one_line_or_is_that_of_a_file_inside(name, tmp_path):
    inside = tmp_path / "folder"
    for key, rule, path in (
        ("hydra.job.name", partial(check_name, "hydra.job.name"), f"{name}.log"),
        ("hydra.output_subdir", partial(check_name, "hydra.output_subdir"), name),
        ("hydra.sweep.subdir", check_subdirectory, name),
    ):
        message = refusal(rule, name)
        if message is None:
            assert inside in Path(os.path.normpath(inside / path)).parents
            assert name not in OUTSIDE
        else:
            assert len(message.splitlines()) == 1
            assert message.startswith(f"`{key}` must ")


@pytest.mark.parametrize(
    "name",
    [*OUTSIDE, *(name for name in NAMES if unicodedata.category(min(name, default="a")) in ("Cc", "Cs"))],
    ids=ascii,
)
def test_a_name_that_leads_out_of_the_folder_or_cannot_be_shown_is_refused(name, base):
    for key in ("hydra.job.name", "hydra.output_subdir"):
        with pytest.raises(InputError, match=r"^`hydra\.[a-z_.]+` must "):
            check(base, f"{key}={in_quotes(name)}")
    with pytest.raises(InputError, match=r"^`hydra\.sweep\.subdir` must "):
        check_subdirectory(name)


FILES = [
    "a: {_target_: os.system}",
    "a: [[{b: {_target_: os.system}}]]",
    "model: {_target_: os.system}",
    "hydra: {callbacks: {a: {_target_: os.system}}}",
    "hydra: {launcher: {_target_: os.system}}",
    "hydra: {sweeper: {_target_: os.system}}",
    "hydra: {launcher: {a: {_target_: hydra_plugins.lenet_jax.LanesLauncher}}}",
    "hydra: {launcher: {_target_: '${a}'}}\na: os.system",
    "hydra: {searchpath: ['pkg://antigravity']}",
    "hydra: {job: {env_set: {PATH: /tmp}}}",
    "hydra: {job: {env_copy: [PATH]}}",
    "hydra: {job: {name: ../../x}}",
    'hydra: {job: {name: "a\\nb"}}',
    "hydra: {output_subdir: ../x}",
    "hydra: {job_logging: {filters: {a: {(): os.system}}}}",
    "hydra: {job_logging: {handlers: {a: {class: logging.StreamHandler, '.': {terminator: x}}}}}",
    "hydra: {job_logging: {handlers: {a: {class: '${a}'}}}}\na: os.system",
    "hydra: {hydra_logging: {handlers: {a: {(): 'ext://os.system'}}}}",
    "hydra: {hydra_logging: {root: {level: 'ext://antigravity.a'}}}",
    "a: !!python/object/apply:os.system [touch sentinel]",
    "a: !!python/name:os.system",
    "a: !!python/module:antigravity",
    "hydra: 1",
    "hydra: {launcher: 1}",
    "hydra: {sweeper: null}",
    "a: [1",
]


@pytest.mark.parametrize(
    ("option", "text"), [*(("--config-path", text) for text in FILES), *(("--config-dir", text) for text in FILES[::5])]
)
def test_a_folder_of_the_user_has_no_code_either(option, text, capsys, tmp_path):
    (tmp_path / "folder" / "conf").mkdir()
    defaults = "defaults:\n  - override hydra/launcher: lanes\n" if option == "--config-path" else ""
    name = "other"
    (tmp_path / "folder" / "conf" / f"{name}.yaml").write_text(defaults + text + "\n")
    assert run(capsys, "train", option, "conf", "--config-name", name) == 2
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["conf"]
