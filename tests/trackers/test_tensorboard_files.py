"""Event files: what is in them by their format, and what TensorBoard's own reader makes of them."""

import io
import json
import time

import numpy as np
import pytest
from PIL import Image

from lenet_jax.runs import Failed
from tests.trackers import recorded
from tests.trackers.tfrecords import read_events, scalars

pytest.importorskip("tensorboardX")

CURVES = ["epoch", "train_loss", "validation_loss", "validation_accuracy"]


def assert_recorded(directory, folder=None):
    """Check the event files of a finished run against its record."""
    curves, lines, result = scalars(folder or directory), recorded.lines(directory), recorded.result(directory)
    for name in CURVES:
        assert [step for step, _, _ in curves[name]] == recorded.STEPS
        np.testing.assert_allclose([value for _, _, value in curves[name]], [line[name] for line in lines], rtol=1e-6)
    times = [time for _, time, _ in curves["epoch"]]
    np.testing.assert_allclose(np.diff(times), np.diff([line["seconds"] for line in lines]), atol=1e-3)
    for name, of_result in (("test_accuracy", "test_accuracy"), ("result_validation_accuracy", "validation_accuracy")):
        ((step, _, value),) = curves[name]
        assert (step, value) == (result["iterations"], pytest.approx(result[of_result]))


def test_a_run_has_its_curves_and_its_result(run):
    recorded.track("tensorboard", run, recorded.whole(run))
    assert_recorded(run)


def test_configuration_and_figures_go_along(run):
    recorded.track("tensorboard", run, recorded.whole(run))
    values = {value.tag: value for event in read_events(run) for value in event.summary.value}
    text = values["configuration/text_summary"].tensor.string_val[0].decode()
    assert json.loads(text) == json.loads((run / "run.json").read_text())["config"]
    picture = Image.open(io.BytesIO(values["figures/learning_curves"].image.encoded_image_string))
    drawn = Image.open(run / "figures" / "learning_curves.png").convert("RGB")
    np.testing.assert_array_equal(np.asarray(picture), np.asarray(drawn))


def test_a_run_that_is_killed_and_resumed_has_each_step_once(run):
    recorded.track("tensorboard", run, recorded.killed(run))
    assert [step for step, _, _ in scalars(run)["epoch"]] == [4, 8, 12]
    recorded.track("tensorboard", run, recorded.resumed(run))
    assert_recorded(run)


def test_a_job_of_a_sweep_has_a_name_that_says_what_it_is(sweep):
    recorded.track("tensorboard", sweep / "1", recorded.whole(sweep / "1"))
    (path,) = sweep.rglob("events.out.tfevents.*")
    assert str(path.parent.relative_to(sweep)) == "1/tensorboard/1_seed=1"
    assert_recorded(sweep / "1", path.parent)


def test_tracked_again_it_has_the_same_points_once(run):
    recorded.track("tensorboard", run, recorded.whole(run))
    before = scalars(run)
    recorded.track("tensorboard", run, recorded.whole(run))
    assert scalars(run) == before


def test_a_run_that_is_not_finished_has_no_result(run):
    recorded.track("tensorboard", run, recorded.killed(run))
    assert "test_accuracy" not in scalars(run)


def test_a_job_that_fails_before_it_starts_has_no_event_files(run):
    recorded.track("tensorboard", run, [Failed(ValueError("a"))])
    assert not (run / "tensorboard").exists()


def test_figures_of_the_report_go_along(run, trained):
    (run / "figures").mkdir()
    for name in ("confusion_matrix", "filters"):
        Image.new("L", (3, 2), 7).save(run / "figures" / f"{name}.png")
    recorded.track("tensorboard", run, recorded.whole(run))
    shown = {value.tag for event in read_events(run) for value in event.summary.value if value.HasField("image")}
    assert shown == {"figures/confusion_matrix", "figures/filters", "figures/learning_curves"}


@pytest.mark.usefixtures("in_an_empty_folder", "allowed", "patient")
def test_commands_write_the_same():
    run = recorded.train_killed_and_resume("run", "trackers=tensorboard")
    assert_recorded(run)
    before = scalars(run)
    recorded.log(run, "tensorboard")
    assert scalars(run) == before
    sweep = recorded.train_sweep("sweep", "trackers=[tensorboard,csv]")
    for number in "01":
        assert_recorded(sweep / number, sweep / number / "tensorboard" / f"{number}_seed={number}")


# ---- as TensorBoard reads them --------------------------------------------------------------------------------------


@pytest.fixture
def load():
    """Return what loads a folder as TensorBoard does."""
    name = "tensorboard.backend.event_processing.event_accumulator"
    module = pytest.importorskip(name, reason="TensorBoard is not installed")

    def load(folder):
        found = module.EventAccumulator(str(folder), size_guidance={"scalars": 0, "images": 0, "tensors": 0})
        found.Reload()
        return found

    return load


def test_tensorboard_reads_the_curves_the_pictures_and_the_text(load, run):
    recorded.track("tensorboard", run, recorded.whole(run))
    found, lines = load(run / "tensorboard"), recorded.lines(run)
    for name in CURVES:
        points = found.Scalars(name)
        assert [point.step for point in points] == recorded.STEPS
        np.testing.assert_allclose([point.value for point in points], [line[name] for line in lines], rtol=1e-6)
    assert found.Tags()["images"] == ["figures/learning_curves"]
    assert {"configuration/text_summary", "result/text_summary"} <= set(found.Tags()["tensors"])


def test_a_tensorboard_that_has_read_a_run_forgets_what_it_discards(load, run):
    recorded.track("tensorboard", run, recorded.killed(run))
    found = load(run / "tensorboard")
    assert [point.step for point in found.Scalars("epoch")] == [4, 8, 12]
    time.sleep(1.1)  # files are named by the second
    recorded.track("tensorboard", run, recorded.resumed(run))
    found.Reload()
    assert [point.step for point in found.Scalars("epoch")] == recorded.STEPS


def test_configurations_are_rows_of_the_table_of_hyperparameters(load, run):
    plugin = pytest.importorskip("tensorboard.plugins.hparams.plugin_data_pb2")
    recorded.track("tensorboard", run, recorded.whole(run))
    found = load(run / "tensorboard")
    data = {
        tag: plugin.HParamsPluginData.FromString(found.SummaryMetadata(tag).plugin_data.content)
        for tag in found.PluginTagToContent("hparams")
    }
    session = data["_hparams_/session_start_info"].session_start_info.hparams
    assert session["trainer.max_epochs"].number_value == 4
    assert session["model._target_"].string_value == "tests.linear.linear"
    named = {info.name.tag for info in data["_hparams_/experiment"].experiment.metric_infos}
    assert named == {"validation_accuracy", "test_accuracy"}
    assert named <= set(found.Tags()["scalars"])
    assert data["_hparams_/session_end_info"].session_end_info.status == 1  # success
