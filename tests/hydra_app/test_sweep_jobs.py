"""The fast composition of a sweep's jobs is Hydra's own, key by key."""

from pathlib import Path

import pytest
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf, open_dict

from lenet_jax.hydra_app.composition import JobComposer, compose, open_hydra, register_schemas, to_config
from lenet_jax.hydra_app.hydra_files import HydraFiles

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
    ["+trainer.extra=1", "seed=1"],
    ["hydra.job.name=other", "seed=1"],
    ["hydra.sweep.subdir=${hydra.job.override_dirname}", "seed=1", "data.train_size=100"],
    ["sweep.strategy=map", "data.directory='a folder, with ${seed}'"],
    ["sweep.strategy=devices", "data.directory='Ordner für später'"],
    ["augment={name: none}", "seed=1"],
    ["augment={}", "seed=2"],
    ["seed=3"],
    ["seed=${hydra:job.num}"],
    ["seed=4"],
]


@pytest.fixture
def hydra():
    register_schemas()
    with open_hydra() as opened:
        yield opened


def to_yaml(composed):
    HydraConfig.instance().set_config(composed)
    return OmegaConf.to_yaml(composed), str(OmegaConf.select(composed, "hydra.sweep.subdir"))


@pytest.mark.parametrize("fixed", [[], ["schedule=cosine", "hydra.sweep.dir=somewhere"]])
def test_jobs_are_composed_as_hydra_composes_them(fixed, hydra):
    master = compose(hydra, fixed, multirun=True)
    composer = JobComposer(hydra.config_loader, master)
    for number, overrides in enumerate(JOBS):
        task = [override for override in fixed if not override.startswith("hydra.")] + overrides
        expected = hydra.config_loader.load_sweep_config(master, task)
        with open_dict(expected):
            expected.hydra.job.id = expected.hydra.job.num = number
        composed = composer.compose(task, number)
        assert to_yaml(composed) == to_yaml(expected)
        HydraFiles.render(composed, Path("of this job alone"))


def test_the_files_of_a_job_are_those_that_hydra_writes(hydra):
    long = "data.directory='" + 30 * "a folder, " + 'an end: "1" # ä\''
    for task in [[], [long], ["data.directory='1'"], ["data.directory='yes'", "trainer.batch_size=null"]]:
        composed = JobComposer(hydra.config_loader, compose(hydra, [], multirun=True)).compose(task, 0)
        texts = HydraFiles.render(composed, Path("here")).texts
        assert texts[".hydra/config.yaml"] + texts[".hydra/hydra.yaml"] == "".join(
            OmegaConf.to_yaml(OmegaConf.masked_copy(composed, keys))
            for keys in ([key for key in composed if key != "hydra"], ["hydra"])
        )
        assert texts[".hydra/overrides.yaml"] == OmegaConf.to_yaml(composed.hydra.overrides.task)


def test_one_job_leaves_the_next_as_it_is(hydra):
    composer = JobComposer(hydra.config_loader, compose(hydra, [], multirun=True))
    first = to_config(composer.compose(["seed=1", "model.hidden_units=3"], 0))
    second = to_config(composer.compose(["seed=2"], 1))
    assert (first.seed, first.model.hidden_units) == (1, 3)
    assert (second.seed, second.model.hidden_units) == (2, 500)
