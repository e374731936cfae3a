"""The fast composition of a sweep's jobs is Hydra's own, key by key."""

from pathlib import Path

import pytest
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf, open_dict

from lenet_jax.hydra_app.composition import compose, open_hydra, to_config, to_sweep_config
from lenet_jax.hydra_app.hydra_files import write_hydra_files
from lenet_jax.hydra_app.sweep_jobs import JobComposer
from lenet_jax.sweeps.groups import SweepJob

pytestmark = pytest.mark.usefixtures("without_type_checks")

JOBS = [
    [],
    ["seed=3"],
    ["optimizer.learning_rate=0.3", "seed=1"],
    ["optimizer=adam", "optimizer.learning_rate=0.01"],
    ["optimizer.learning_rate=0.01", "optimizer=adam", "seed=2"],
    ["model=mnist_cnn", "data=mnist", "trainer.early_stopping.patience=7"],
    ["experiment=keras_mnist", "trainer.batch_size=64"],
    ["experiment=theano_lenet", "seed=${hydra:job.num}"],
    ["model.num_kernels=[2,3]", "trainer.max_epochs=${seed}", "seed=5"],
    ["trainer.max_epochs=4", "++trainer.max_epochs=1"],
    ["++trainer.max_epochs=1", "trainer.max_epochs=4"],
    ["model.hidden_units=8", "model={hidden_units: 3}"],
    ["model={hidden_units: 3}", "model.hidden_units=8"],
    ["trainer={max_epochs: 2}", "++model={hidden_units: 3}", "trainer.max_epochs=3"],
    ["+trainer.extra=1", "seed=1"],
    ["hydra.job.name=other", "seed=1"],
    ["hydra.sweep.subdir=${hydra.job.override_dirname}", "seed=1", "data.train_size=100"],
    ["sweep.strategy=map", "data.directory='a folder, with ${seed}'"],
    ["sweep.strategy=devices", "data.directory='Ordner für später'"],
    ["model._target_=tests.linear.linear", "seed=1"],
    ["model._target_=lenet_jax.models.mnist_cnn.mnist_cnn", "model.num_kernels=[4,5]"],
    ["+model.extra=1", "++model.other=2", "model.another=3"],
    ["augment={}", "seed=2"],
    ["augment={_target_: lenet_jax.augment.random_flip}", "seed=1"],
    ["+augment.first={_target_: lenet_jax.augment.random_affine, degrees: 3}"],
    ["augment={a: {_target_: lenet_jax.augment.random_crop}, b: {_target_: lenet_jax.augment.elastic}}"],
    ["augment=affine", "augment.degrees=3"],
    ["objective=regression"],
    ["objective.label_smoothing=0.1", "trackers=csv"],
    ["seed=3"],
    ["seed=${hydra:job.num}"],
    ["seed=4"],
]


@pytest.fixture
def hydra():
    with open_hydra() as opened:
        yield opened


def to_yaml(composed):
    HydraConfig.instance().set_config(composed)
    return OmegaConf.to_yaml(composed), str(OmegaConf.select(composed, "hydra.sweep.subdir"))


@pytest.mark.parametrize("fixed", [[], ["schedule=cosine", "hydra.sweep.dir=somewhere"]])
def test_jobs_are_composed_as_hydra_composes_them(fixed, hydra):
    base = compose(hydra, fixed, multirun=True)
    composer = JobComposer(hydra.config_loader, base)
    for number, overrides in enumerate(JOBS):
        task = [override for override in fixed if not override.startswith("hydra.")] + overrides
        expected = hydra.config_loader.load_sweep_config(base, task)
        with open_dict(expected):
            expected.hydra.job.id = expected.hydra.job.num = number
        composed = composer.compose(task, number)
        assert to_yaml(composed) == to_yaml(expected)


def test_the_files_of_a_job_are_those_that_hydra_writes(hydra, tmp_path):
    long = "data.directory='" + 30 * "a folder, " + 'an end: "1" # ä\''
    base = compose(hydra, [], multirun=True)
    common = OmegaConf.to_container(base.hydra, resolve=False, enum_to_str=True)
    tasks = [[], [long], ["data.directory='1'"], ["data.directory='yes'", "trainer.batch_size=null"], ["trackers=csv"]]
    for number, task in enumerate(tasks):
        task = [*(["data=idx"] if "data.directory" in "".join(task) else []), *task]
        composed = JobComposer(hydra.config_loader, base).compose(task, number)
        path = tmp_path / str(number)
        job = SweepJob(number, tuple(task), to_config(composed), path)
        write_hydra_files(job, common, vars(to_sweep_config(composed))).close()  # pyright: ignore[reportArgumentType]
        texts = {file.name: file.read_text(encoding="utf-8") for file in (path / ".hydra").iterdir()}
        own = OmegaConf.masked_copy(composed, [key for key in composed if key != "hydra"])
        assert texts["config.yaml"] == OmegaConf.to_yaml(own)
        assert texts["overrides.yaml"] == OmegaConf.to_yaml(composed.hydra.overrides.task)
        written, expected = OmegaConf.create(texts["hydra.yaml"]), OmegaConf.masked_copy(composed, ["hydra"])
        OmegaConf.set_readonly(expected.hydra, False)
        expected.hydra.runtime.output_dir = str(path)  # which Hydra sets when it runs a job
        assert set(written.hydra.runtime.choices) <= set(expected.hydra.runtime.choices)
        expected.hydra.runtime.choices = written.hydra.runtime.choices
        expected.hydra.mode = written.hydra.mode
        assert OmegaConf.to_yaml(written) == OmegaConf.to_yaml(expected)


def test_one_job_leaves_the_next_as_it_is(hydra):
    composer = JobComposer(hydra.config_loader, compose(hydra, [], multirun=True))
    first = to_config(composer.compose(["seed=1", "model.hidden_units=3"], 0))
    second = to_config(composer.compose(["seed=2"], 1))
    assert (first.seed, first.model["hidden_units"]) == (1, 3)
    assert (second.seed, second.model["hidden_units"]) == (2, 500)


def test_a_job_has_the_options_of_its_own_function(hydra):
    composer = JobComposer(hydra.config_loader, compose(hydra, [], multirun=True))
    jobs = [
        ["model=lenet", "model.hidden_units=3"],
        ["model=mnist_cnn"],
        ["model=lenet", "model.hidden_units=4"],
        ["model._target_=tests.linear.linear"],
    ]
    models = [to_config(composer.compose(overrides, number)).model for number, overrides in enumerate(jobs)]
    assert [model.get("hidden_units") for model in models] == [3, None, 4, None]
    assert models[3] == {"_target_": "tests.linear.linear"}
    assert Path(composer.compose(["seed=1"], 7).hydra.sweep.subdir) == Path("7")
