"""Keys of a sweep whose lists go together."""

import re
from pathlib import Path

import pytest

from lenet_jax.cli import main
from lenet_jax.errors import InputError
from lenet_jax.hydra_app.composition import compose, open_hydra
from lenet_jax.hydra_app.sweep_jobs import known_jobs

pytestmark = pytest.mark.usefixtures("in_an_empty_folder", "without_type_checks")

KEYS = ["seed=0,1", "optimizer.learning_rate=0.1,0.2,0.4", "++trainer.batch_size=range(10,40,10)"]
PAIR = "[[optimizer.learning_rate,trainer.batch_size]]"


@pytest.fixture(scope="module")
def hydra():
    with open_hydra() as opened:
        yield opened


def jobs(hydra, zipped, *arguments):
    base = compose(hydra, [*arguments, f"hydra.sweeper.zip={zipped}"], multirun=True)
    return known_jobs(base, hydra.config_loader)


@pytest.mark.parametrize(
    "zipped", [PAIR, "[optimizer.learning_rate,trainer.batch_size]", "[[++trainer.batch_size,optimizer.learning_rate]]"]
)
def test_keys_go_together_and_are_crossed_with_the_others(zipped, hydra):
    pairs = [("0.1", "10"), ("0.2", "20"), ("0.4", "30")]
    assert jobs(hydra, zipped, *KEYS) == [
        [f"seed={seed}", f"optimizer.learning_rate={rate}", f"++trainer.batch_size={size}"]
        for seed in "01"
        for rate, size in pairs
    ]


def test_several_lists_go_together(hydra):
    found = jobs(
        hydra,
        "[[seed,model.hidden_units],[optimizer.learning_rate,trainer.batch_size]]",
        *KEYS,
        "model.hidden_units=4,8",
    )
    assert len(found) == 6
    assert {(job[0], job[3]) for job in found} == {
        ("seed=0", "model.hidden_units=4"),
        ("seed=1", "model.hidden_units=8"),
    }


def test_drawn_keys_go_together(hydra):
    arguments = ["hydra/sweeper=random", "hydra.sweeper.num_trials=3", *KEYS]
    found = jobs(hydra, PAIR, *arguments)
    assert len(found) == 6
    assert {tuple(job[1:]) for job in found} == {
        (f"optimizer.learning_rate={rate}", f"++trainer.batch_size={size}")
        for rate, size in ((0.1, 10), (0.2, 20), (0.4, 30))
    }


@pytest.mark.parametrize(
    ("zipped", "message"),
    [
        ("[[optimizer.learning_rate,seed]]", "lists of one length; got seed of 2, optimizer.learning_rate of 3."),
        (
            "[[optimizer.learning_rate,trainer.max_epochs]]",
            "must name keys that are swept over lists, as trainer.max_epochs=a,b; trainer.max_epochs is not.",
        ),
        (
            "[[optimizer.learning_rate]]",
            "must be null or a list of lists of keys, as [[KEY,KEY]]; got [['optimizer.learning_rate']].",
        ),
        ("[[seed,optimizer.learning_rate],[seed,trainer.batch_size]]", "must name a key once; got seed 2 times."),
        ("[1,2]", "must be null or a list of lists of keys"),
    ],
)
def test_what_cannot_go_together_is_refused(zipped, message, hydra):
    with pytest.raises(InputError, match=re.escape(message)):
        jobs(hydra, zipped, *KEYS)


def test_an_interval_does_not_go_with_a_list_and_nothing_is_written(capsys):
    arguments = ["hydra/sweeper=random", "optimizer.learning_rate=interval(0.1,1)", "trainer.batch_size=10,20"]
    assert main(["train", "-m", *arguments, f"hydra.sweeper.zip={PAIR}", "hydra.sweep.dir=sweep"]) == 2
    assert "optimizer.learning_rate is not." in capsys.readouterr().err
    assert not Path("sweep").exists()
