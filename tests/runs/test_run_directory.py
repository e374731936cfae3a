"""The directory of a run: how its files are written, and that good ones are read back and damaged ones refused."""

import json
import math
import re
import resource

import pytest

from lenet_jax.components import complete_config
from lenet_jax.config import Config
from lenet_jax.errors import InputError
from lenet_jax.runs.run_directory import METRICS, RESULT, RUN, RunDirectory, read_record
from lenet_jax.storage import load_verified
from tests.runs.small import make_config, run_whole


@pytest.mark.parametrize("names", [[RUN], [METRICS], [RESULT], [RUN, RESULT]])
def test_a_directory_with_a_run_is_refused(names, tmp_path):
    for name in names:
        (tmp_path / name).write_text("")
    message = (
        f"`hydra.run.dir` must not hold a run yet; {tmp_path} has {', '.join(names)}; use another, or resume that "
        f"run: lenet-jax resume {tmp_path}."
    )
    with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
        RunDirectory(tmp_path)


def test_taking_a_directory_writes_nothing(tmp_path):
    RunDirectory(tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


def test_the_metrics_log_begins_with_its_schema_and_grows_by_a_line(tmp_path):
    directory = RunDirectory(tmp_path)
    for iteration in (1, 2, 3):
        directory.append_metrics({"iteration": iteration})
        assert len((tmp_path / METRICS).read_text().splitlines()) == iteration + 1
    head, *lines = map(json.loads, (tmp_path / METRICS).read_text().splitlines())
    assert head["schema"] == 1
    assert lines == [{"iteration": 1}, {"iteration": 2}, {"iteration": 3}]


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_a_number_that_is_not_finite_becomes_null(number, tmp_path):
    directory = RunDirectory(tmp_path)
    directory.append_metrics({"loss": number})
    directory.write_result({"losses": [0.5, number], "more": {"loss": number}})
    assert json.loads((tmp_path / METRICS).read_text().splitlines()[1]) == {"loss": None}
    result = load_verified(tmp_path / RESULT, (tmp_path / RESULT).read_bytes())
    assert result == {"losses": [0.5, None], "more": {"loss": None}}


def test_run_json_is_replaced_whole(tmp_path):
    directory = RunDirectory(tmp_path)
    directory.write_run({"seed": 3, "long": 1000 * "a"})
    directory.write_run({"seed": 4})
    assert directory.read_run() == {"seed": 4}
    assert [path.name for path in tmp_path.iterdir()] == [RUN]


def test_a_line_that_does_not_fit_on_the_disk_leaves_nothing(tmp_path):
    directory = RunDirectory(tmp_path)
    directory.append_metrics({"epoch": 1})
    before = (tmp_path / METRICS).read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 5, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            directory.append_metrics({"epoch": 2})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (tmp_path / METRICS).read_bytes() == before
    directory.append_metrics({"epoch": 2})
    assert [json.loads(line) for line in (tmp_path / METRICS).read_text().splitlines()][1:] == [
        {"epoch": 1},
        {"epoch": 2},
    ]


# ---- read back ------------------------------------------------------------------------------------------------------


def test_a_record_has_what_the_run_wrote(tmp_path, without_type_checks):
    run_whole(make_config(seed=3, max_epochs=1), tmp_path)
    record = read_record(tmp_path)
    assert isinstance(record.config, Config)
    assert complete_config(record.config) == make_config(seed=3, max_epochs=1)
    assert [line["epoch"] for line in record.metrics] == [1]
    assert record.result["stopped_by"] == "max_epochs"


def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"`DIR` must be the directory of a run, with a run.json in it; got "):
        read_record(tmp_path)


def test_the_directory_of_a_sweep_is_refused_with_the_name_of_a_job(tmp_path):
    (tmp_path / "sweep.json").write_text("{}")
    with pytest.raises(InputError) as error:
        read_record(tmp_path)
    assert str(error.value).endswith(f"got {tmp_path}, that of a sweep; name a job of it, as {tmp_path}/0.")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "run.json: must be JSON as lenet-jax writes it"),
        ("[]", "run.json: must be an object of schema 1"),
        (json.dumps({"schema": 2}), "use the version of lenet-jax that wrote it"),
        (json.dumps({"schema": 1, "config": {"sead": 1}}), "`configuration` has no 'sead'"),
    ],
)
def test_a_damaged_record_is_refused(content, message, tmp_path):
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(InputError, match=message):
        read_record(tmp_path)


@pytest.mark.parametrize("content", ["{}", '{"stopped_by": "max_ep', "", '{"epochs": 1}'])
def test_a_damaged_result_is_named_with_the_remedy(content, tmp_path):
    (tmp_path / "run.json").write_text('{"config": {}}')
    (tmp_path / "result.json").write_text(content)
    with pytest.raises(InputError) as refused:
        read_record(tmp_path)
    assert str(refused.value).startswith(f"{tmp_path / 'result.json'}: ")
    remedy = f"; restore it, or remove it and finish the run again: lenet-jax resume {tmp_path}."
    assert str(refused.value).endswith(remedy)
