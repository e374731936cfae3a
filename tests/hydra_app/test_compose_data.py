"""`evaluate RUN data...` starts from the data of the run."""

import pytest

from lenet_jax import components
from lenet_jax.errors import InputError
from lenet_jax.hydra_app.composition import compose_data

pytestmark = pytest.mark.usefixtures("without_type_checks")

IDX = components.complete(
    "data",
    {
        **{"_target_": "lenet_jax.data.load_idx", "directory": "o${ld", "validation_size": 50},
        **{"pixel_divisor": 255.0, "train_size": 100},
    },
)
EMBEDDED = components.complete("data", {"_target_": "lenet_jax.data.load_embedded", "pixel_divisor": 16.0})
TFDS = components.complete("data", {"_target_": "lenet_jax.data.load_tfds", "name": "mnist", "train_size": 100})


@pytest.mark.parametrize(
    ("recorded", "overrides", "expected"),
    [
        (IDX, ["data.train_size=7"], {**IDX, "train_size": 7}),
        (IDX, ["data.directory=new"], {**IDX, "directory": "new"}),
        (IDX, ["data=idx", "data.directory=new"], {**IDX, "directory": "new"}),
        (
            IDX,
            ["data.directory=new", "data=idx", "data.train_size=null"],
            {**IDX, "directory": "new", "train_size": None},
        ),
        (IDX, ["++data.pixel_divisor=2"], {**IDX, "pixel_divisor": 2.0}),
        (IDX, ["data={directory: new}", "data.validation_size=3"], {**IDX, "directory": "new", "validation_size": 3}),
        (EMBEDDED, ["data=embedded"], EMBEDDED),
        (IDX, ["data=embedded"], {**EMBEDDED, "pixel_divisor": 255.0}),
        (IDX, ["data._target_=lenet_jax.data.load_embedded"], {**EMBEDDED, "pixel_divisor": 255.0}),
        (EMBEDDED, ["data=embedded", "data.pixel_divisor=255"], {**EMBEDDED, "pixel_divisor": 255.0}),
        (TFDS, ["data=fashion_mnist"], {**TFDS, "name": "fashion_mnist"}),
    ],
)
def test_what_is_not_given_is_that_of_the_run(recorded, overrides, expected):
    assert compose_data(recorded, overrides) == expected


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["data.directroy=a"], r"`data` has no 'directroy'; choose one of: directory"),
        (["data.train_size=0"], r"`data.train_size` must be null or an integer, 1 or above"),
        (
            ["data.train_size=None"],
            r"`data.train_size` must be null or .* got 'None', which is a text here; write null",
        ),
        (["data=mnst"], "mnst"),
        (["data.train_size=1,2"], "Ambiguous value"),
    ],
)
def test_options_are_checked(overrides, message):
    with pytest.raises(Exception, match=message) as caught:
        compose_data(IDX, overrides)
    assert isinstance(caught.value, InputError) or type(caught.value).__module__.startswith("hydra.")
