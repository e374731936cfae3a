"""The network of a run classifies images of files as it classifies those of its data."""

import json

import jaxtyping
import numpy as np
import pytest
from PIL import Image

import lenet_jax as lj
from lenet_jax.cli import main
from lenet_jax.data.class_names import class_names
from lenet_jax.data.embedded import read_embedded
from lenet_jax.runs.evaluate import evaluate_run
from lenet_jax.runs.predict import predict_files
from lenet_jax.runs.trust import read_allowed
from tests.data.test_own_images import on_paper
from tests.runs.small import component, make_config, run_whole

pytestmark = pytest.mark.usefixtures("without_type_checks")


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    path = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jaxtyping.config, "jaxtyping_disable", True)
        groups = {"model": component("model", "lenet", num_kernels=[8, 16], hidden_units=50)}
        groups |= {"data": component("data", "embedded"), "optimizer": component("optimizer", "momentum")}
        run_whole(make_config(groups=groups, max_epochs=3), path)
    return path


def test_images_of_the_test_set_are_predicted_as_evaluation_does(directory, tmp_path):
    images = read_embedded()["test_images"]
    np.save(tmp_path / "test.npy", images)
    for number in range(5):
        Image.fromarray(images[number]).save(tmp_path / f"{number}.png")
    record = read_allowed(directory)
    evaluated = evaluate_run(record).predictions
    found = predict_files(record, [tmp_path / "test.npy", tmp_path / "4.png"])
    assert [each.label for each in found[:500]] == evaluated.tolist()
    assert [each.name for each in found[:2]] == [f"{tmp_path / 'test.npy'}[0]", f"{tmp_path / 'test.npy'}[1]"]
    assert found[500]._replace(file="", preparation="") == found[4]._replace(file="", preparation="", index=None)
    for each in found:
        assert sum(each.probabilities) == pytest.approx(1, abs=1e-5)
        assert each.confidence == max(each.probabilities) == each.probabilities[each.label]


def test_digits_on_paper_are_read_nearly_as_well_as_those_of_the_test_set(directory, tmp_path):
    arrays, paths = read_embedded(), []
    for number in range(200):
        paths.append(tmp_path / f"{number:03}.png")
        Image.fromarray(on_paper(arrays["test_images"][number]).astype(np.uint8)).save(paths[-1])
    labels = [each.label for each in predict_files(read_allowed(directory), [tmp_path])]
    raw = [each.label for each in predict_files(read_allowed(directory), paths, invert=False, centre=False)]
    accuracy, without = (np.mean(np.array(each) == arrays["test_labels"][:200]) for each in (labels, raw))
    original = np.mean(evaluate_run(read_allowed(directory)).predictions[:200] == arrays["test_labels"][:200])
    assert original > 0.9
    assert accuracy > original - 0.03
    assert without < 0.5


def test_floats_and_pixels_give_the_same(directory, tmp_path):
    images = read_embedded()["test_images"][:7]
    np.save(tmp_path / "pixels.npy", images)
    np.save(tmp_path / "floats.npy", images / 256)
    found = predict_files(read_allowed(directory), [tmp_path / "floats.npy", tmp_path / "pixels.npy"])
    assert [each.probabilities for each in found[:7]] == [each.probabilities for each in found[7:]]


def test_a_run_that_does_not_classify_is_refused(directory):
    record = read_allowed(directory)
    with pytest.raises(lj.InputError, match=r"`DIR` must hold a finished run; finish it: lenet-jax resume"):
        predict_files(record._replace(result=None), [])
    config = make_config(groups={"objective": component("objective", "regression")})
    with pytest.raises(lj.InputError, match=r"must be of a run that classifies; the objective of this one is regr"):
        predict_files(record._replace(config=config), [])


def test_the_command_prints_a_line_an_image(directory, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    images = read_embedded()["test_images"]
    Image.fromarray(images[0]).save("digit.png")
    np.save("two.npy", images[:2])
    assert main(["predict", str(directory), "digit.png", "two.npy"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4
    label, share = lines[0].removeprefix("digit.png: ").removesuffix("%; 28x28, taken as it is").split(", ")
    assert lines[1] == "two.npy: 2 inputs, taken as they are"
    assert lines[2] == f"two.npy[0]: {label}, {share}%"
    assert main(["predict", "--json", str(directory), "digit.png"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["file"] == "digit.png"
    assert str(found["label"]) == label
    assert f"{100 * found['confidence']:.1f}" == share
    assert len(found["probabilities"]) == 10
    assert "class_name" not in found


def test_bad_input_is_one_line(directory, tmp_path, capsys):
    for arguments, message in (
        ([], "predict: usage: lenet-jax predict DIR FILE"),
        ([str(tmp_path / "none.png")], "none.png: must be a file; it is missing."),
        (["--invert", "--no-invert", "x.png"], "`--invert` and `--no-invert` exclude each other"),
        (["--weights=first", "x.png"], "predict: `--weights` must be best or last; got 'first'."),
        (["--jsn", "x.png"], "`predict` has no '--jsn'; choose one of: --json,"),
    ):
        assert main(["predict", str(directory), *arguments]) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert err.count("\n") == 1
        assert message in err


def test_names_of_classes_come_from_the_data(tmp_path):
    assert class_names(component("data", "fashion_mnist"))[9] == "Ankle boot"
    assert class_names({**component("data", "emnist"), "split": "balanced"})[10] == "A"
    assert len(class_names({**component("data", "emnist"), "split": "bymerge"})) == 47
    assert class_names({**component("data", "emnist"), "split": "letters"})[26] == "z"
    assert class_names(component("data", "embedded")) is None
    for name in ("train/cat", "train/ant", "test/ant", "test/cat"):
        (tmp_path / name).mkdir(parents=True)
    assert class_names(component("data", "folder", directory=str(tmp_path))) == ["ant", "cat"]
    assert class_names(component("data", "folder", directory=str(tmp_path / "gone"))) is None
