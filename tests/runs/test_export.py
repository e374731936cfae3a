"""An exported network computes what the run's does, wherever it is read."""

import gc
import re
from pathlib import Path

import jax
import jaxtyping
import numpy as np
import pytest
from jax import export

import lenet_jax as lj
from lenet_jax.cli import main
from lenet_jax.interop.orbax import load_orbax, save_orbax
from lenet_jax.runs.evaluate import evaluate_run
from lenet_jax.runs.export import export_run
from lenet_jax.runs.trust import read_allowed
from lenet_jax.weights import named_leaves
from tests.runs.small import component, make_config, run_whole

pytestmark = [
    pytest.mark.usefixtures("without_type_checks"),
    # Orbax leaves tasks behind when it ends on an error.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

MODELS = {
    "lenet": component("model", "lenet", num_kernels=[2, 3], hidden_units=10),
    "mnist_cnn": component("model", "mnist_cnn"),
    "lenet5": component("model", "lenet5"),
    "resnet18": component("model", "resnet18", width=0.0625),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jaxtyping.config, "jaxtyping_disable", True)
        for name, model in MODELS.items():
            run_whole(make_config(1, groups={"model": model}, max_epochs=1), path / name)
    return path


def logits_of(record):
    evaluation = evaluate_run(record)
    inputs = evaluation.split.inputs
    return np.asarray(inputs), np.asarray(lj.predict_logits(evaluation.model, evaluation.variables, inputs))


@pytest.mark.parametrize("name", MODELS)
def test_a_stablehlo_program_takes_any_batch_on_any_platform(folder, tmp_path, name):
    record = read_allowed(folder / name)
    found = export_run(record, "stablehlo", tmp_path / "model.stablehlo")
    assert (found.same, found.examples) == (500, 500)
    assert found.largest < 1e-3
    assert (found.inputs, found.outputs) == ("uint8 (N, 28, 28, 1)", "float32 (N, 10)")
    program = export.deserialize(bytearray((tmp_path / "model.stablehlo").read_bytes()))
    assert set(program.platforms) == {"cpu", "cuda", "rocm", "tpu"}
    calls = re.findall(r"custom_call @(\w+)", program.mlir_module())
    assert set(calls) <= {"shape_assertion"}  # of JAX's own, that the batch is not empty; no kernel of ours
    inputs, logits = logits_of(record)
    for count in (1, 7):
        np.testing.assert_allclose(program.call(inputs[:count]), logits[:count], atol=1e-3)


def test_a_program_may_have_a_fixed_batch(folder, tmp_path):
    found = export_run(read_allowed(folder / "lenet"), "stablehlo", tmp_path / "m.stablehlo", batch_size=64)
    assert (found.inputs, found.same) == ("uint8 (64, 28, 28, 1)", 500)


@pytest.mark.parametrize("name", MODELS)
def test_an_onnx_model_computes_the_same(folder, tmp_path, name):
    pytest.importorskip("onnx")
    onnxruntime = pytest.importorskip("onnxruntime")
    record = read_allowed(folder / name)
    found = export_run(record, "onnx", tmp_path / "model.onnx")
    assert (found.same, found.examples) == (500, 500)
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    inputs, logits = logits_of(record)
    for count in (1, 7):
        (outputs,) = session.run(None, {session.get_inputs()[0].name: inputs[:count]})
        np.testing.assert_allclose(outputs, logits[:count], atol=1e-3)


@pytest.mark.parametrize("kind", ["safetensors", "orbax"])
@pytest.mark.parametrize("name", ["lenet", "resnet18"])
def test_weights_are_written_and_read_back_bit_for_bit(folder, tmp_path, kind, name):
    record = read_allowed(folder / name)
    found = export_run(record, kind, tmp_path / "weights")
    assert (found.same, found.largest) == (500, 0)
    evaluation = evaluate_run(record)
    read = lj.load_variables if kind == "safetensors" else load_orbax
    one, other = (named_leaves(each) for each in (evaluation.variables, read(tmp_path / "weights", evaluation.model)))
    assert one.keys() == other.keys()
    for leaf in one:
        np.testing.assert_array_equal(one[leaf], other[leaf])


def test_orbax_reads_what_is_written_and_other_checkpoints_are_read(folder, tmp_path):
    import orbax.checkpoint as ocp

    evaluation = evaluate_run(read_allowed(folder / "lenet"))
    save_orbax(tmp_path / "ours", evaluation.variables)
    with ocp.PyTreeCheckpointer() as checkpointer:
        found = checkpointer.restore(tmp_path / "ours")
    np.testing.assert_array_equal(found["params"]["conv1"]["kernel"], evaluation.variables.params["conv1"]["kernel"])
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "theirs", evaluation.variables._asdict())
    theirs = load_orbax(tmp_path / "theirs", evaluation.model)
    np.testing.assert_array_equal(theirs.params["softmax"]["bias"], evaluation.variables.params["softmax"]["bias"])


def test_bad_orbax_checkpoints_are_refused(folder, tmp_path):
    model, wider = (lj.create_model("lenet", num_kernels=(n, 3), hidden_units=10) for n in (2, 4))
    variables = model.init(jax.random.key(0))
    save_orbax(tmp_path / "one", variables)
    with pytest.raises(lj.InputError, match=r"save_orbax: `path` must not exist yet; got .*one"):
        save_orbax(tmp_path / "one", variables)
    with pytest.raises(lj.InputError, match=r"`path` must be the folder of an Orbax checkpoint; .* is none"):
        load_orbax(tmp_path, model)
    with pytest.raises(lj.InputError, match=r"'params/conv1/bias' must have shape \(4,\); it has \(2,\)"):
        load_orbax(tmp_path / "one", wider)
    for path in (tmp_path / "one").rglob("*"):
        if path.is_file() and not path.name.startswith("_"):
            path.write_bytes(b"")
    with pytest.raises(lj.InputError, match=r"`path` must be an intact Orbax checkpoint; .*one: "):
        load_orbax(tmp_path / "one", model)
    gc.collect()


def test_a_run_begins_with_an_orbax_checkpoint(folder, tmp_path):
    from tests.runs.test_initial_weights import prepare

    evaluation = evaluate_run(read_allowed(folder / "lenet"))
    save_orbax(tmp_path / "orbax", evaluation.variables)
    prepared = prepare(tmp_path / "orbax", model=MODELS["lenet"])
    np.testing.assert_array_equal(
        prepared.initial.tensors["params/conv1/kernel"], evaluation.variables.params["conv1"]["kernel"]
    )


def test_the_command_says_what_it_has_compared(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["export", str(folder / "lenet"), "--to", "stablehlo", "--output=m.stablehlo"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"m\.stablehlo, [\d.]+ KiB: inputs uint8 \(N, 28, 28, 1\), outputs float32 \(N, 10\)", lines[0])
    assert lines[2].startswith("500 of 500 test examples have the same largest output; the largest difference of an")
    assert Path("m.stablehlo").is_file()
    for arguments, message in (
        ([], "export: usage: lenet-jax export DIR --to stablehlo|onnx"),
        (["--to=tensorflow"], "`export: --to` has no 'tensorflow'; choose one of: onnx, orbax, safetensors, stablehlo"),
        (["--to=stablehlo", "--output=m.stablehlo"], "`--output` must not exist yet; got m.stablehlo"),
        (["--to=orbax", "--batch=2"], "`--batch` must be left out for orbax, which holds weights only"),
        (["--to=onnx", "--batch=no"], "`--batch` must be an integer, 1 or above; got 'no'"),
    ):
        assert main(["export", str(folder / "lenet"), *arguments]) == 2
        out, err = capsys.readouterr()
        assert (out, err.count("\n")) == ("", 1)
        assert message in err
