"""The last override wins: a sweep is the single runs of Hydra's own, one for each choice of its values."""

import itertools

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hypothesis import example, given
from hypothesis import strategies as st
from omegaconf.errors import OmegaConfBaseException

from lenet_jax.config import to_dict
from lenet_jax.errors import InputError
from lenet_jax.hydra_app.composition import compose, open_hydra, to_config
from lenet_jax.hydra_app.sweep_jobs import JobComposer, known_jobs
from lenet_jax.storage import to_json

pytestmark = pytest.mark.usefixtures("without_type_checks")

REFUSALS = (InputError, HydraException, OmegaConfBaseException)
OVERRIDES = [
    *("seed=1", "++seed=2", "+seed=3", "seed=4,5", "++seed=6,7", "seed=range(8,10)"),
    *("trainer.max_epochs=1", "++trainer.max_epochs=2", "trainer.max_epochs=3,4", "trainer.max_epochs=${seed}"),
    *("trainer={max_epochs:5}", "trainer={max_epochs:6,batch_size:10},{batch_size:11}", "trainer.batch_size=12"),
    *(
        "trainer.early_stopping.patience=13",
        "trainer.early_stopping={patience:14}",
        "trainer.early_stopping.enabled=false",
    ),
    *("model=mnist_cnn", "model=lenet", "model=mnist_cnn,lenet", "model@model=lenet", "~model.num_kernels"),
    *("model.num_kernels=[2,3]", "model={num_kernels:[4,5]}", "+model.num_kernels=[6,7]", "++model.num_kernels=[8,9]"),
    *("model.num_kernels=[2,2],[3,3]", "model._target_=lenet_jax.models.mnist_cnn.mnist_cnn", "model.nothing=1"),
    *("optimizer=adam", "optimizer.learning_rate=0.1,0.2", "optimizer={learning_rate:0.3}", "~optimizer.learning_rate"),
    *("+optimizer.learning_rate=0.4", "++optimizer.learning_rate=0.5", "optimizer.learning_rate=0.6"),
    *("experiment=theano_lenet", "experiment=default,keras_mnist", "schedule=cosine", "~schedule", "+schedule=step"),
    *("augment=[affine,elastic]", "augment=affine", "augment.degrees=3", "augment={}", "+trackers=csv", "trackers=csv"),
    *("data.train_size=100", "++data={train_size:200}", "data.directory='a b, c'", "+data.more=1", "data=idx"),
]


@pytest.fixture(scope="module")
def hydra():
    with open_hydra() as opened:
        yield opened


def outcome(make):
    """Return the configuration of a composition as text, or None if it is refused."""
    try:
        return to_json(to_dict(to_config(make())))
    except REFUSALS:
        return None


def single_runs(hydra, overrides):
    """Return what Hydra composes of a single run for each choice of the values in a sweep."""
    parsed = OverridesParser.create(config_loader=hydra.config_loader).parse_overrides(overrides)
    choices = [
        [f"{each.get_key_element()}={value}" for value in each.sweep_string_iterator()]
        if each.is_sweep_override()
        else [each.input_line]
        for each in parsed
    ]
    found = {}
    for job in itertools.product(*choices):
        found[job] = outcome(lambda job=job: compose(hydra, list(job)))
    return found


@given(overrides=st.lists(st.sampled_from(OVERRIDES), min_size=1, max_size=6))
@example(overrides=["trainer.max_epochs=4", "++trainer.max_epochs=1", "seed=4,5"])
@example(overrides=["seed=4,5", "++seed=2"])
@example(overrides=["augment=[affine,elastic]", "augment.degrees=3"])
@example(overrides=["augment=[affine,elastic]", "augment=affine", "augment.degrees=3", "seed=4,5"])
@example(overrides=["model.num_kernels=[2,3]", "model={num_kernels:[4,5]}", "seed=4,5"])
@example(overrides=["trainer={max_epochs:5}", "trainer={max_epochs:6,batch_size:10},{batch_size:11}"])
@example(overrides=["+model.num_kernels=[6,7]", "~model.num_kernels"])
def test_a_sweep_is_the_single_runs_of_its_values(overrides, hydra):
    base = outcome_of_base = None
    try:
        base = compose(hydra, overrides, multirun=True)
    except REFUSALS as error:
        outcome_of_base = error
    if base is None:
        assert set(single_runs(hydra, overrides).values()) == {None}, outcome_of_base
        return
    composer = JobComposer(hydra.config_loader, base)
    jobs = known_jobs(base, hydra.config_loader) or []
    found = {outcome(lambda job=job, number=number: composer.compose(job, number)) for number, job in enumerate(jobs)}
    assert found == set(single_runs(hydra, overrides).values())


@pytest.mark.parametrize(
    ("override", "folder"),
    [("~experiment", "default"), ("experiment=default", "default"), ("experiment=csu_scg", "csu_scg")],
)
def test_a_run_has_the_folder_of_its_experiment(hydra, override, folder):
    composed = compose(hydra, [override])
    assert composed.hydra.run.dir.split("/")[:2] == ["outputs", folder]
