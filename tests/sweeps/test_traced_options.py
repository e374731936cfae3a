"""Jobs that differ in float options share one program, and each has the bits of the run alone."""

import importlib
import textwrap

import jax
import pytest

from lenet_jax import components
from lenet_jax.components import complete_config
from lenet_jax.config import Config, TrainerConfig
from lenet_jax.hydra_app.composition import compose_config
from lenet_jax.runs import Finished
from lenet_jax.runs.group import Job, run_jobs
from lenet_jax.runs.prepared_run import prepare_run, prepare_runs, program_signature

OWN = """
    import jax
    import jax.numpy as jnp
    import numpy as np
    import optax
    from flax import linen as nn
    import lenet_jax as lj
    from lenet_jax.interop import from_linen

    class Net(nn.Module):
        rate: float
        slope: float

        @nn.compact
        def __call__(self, x, train=False):
            x = nn.leaky_relu(nn.Dense(8)(x.reshape(len(x), -1)), self.slope)
            return nn.Dense(3)(nn.Dropout(self.rate, deterministic=not train)(x))

    def net(*, input_shape, num_outputs, rate: float = 0.5, slope: float = 0.1):
        if not 0 <= rate < 1:
            raise ValueError("rate must be from 0 to below 1")
        return from_linen(Net(rate, slope), input_shape)

    def data(*, size: int = 24):
        images = np.random.default_rng(0).normal(size=(size, 4, 4, 1)).astype(np.float32)
        split = lj.Split(images, np.arange(size) % 3)
        return lj.Dataset(split, split, split, num_classes=3)

    def noise(*, strength: float = 0.1):
        return lambda key, image: image + strength * jax.random.normal(key, image.shape)

    def objective(*, sharpness: float = 1.0):
        def loss(outputs, targets):
            return optax.softmax_cross_entropy_with_integer_labels(sharpness * outputs, targets)
        return lj.Objective(loss, {"accuracy": lambda outputs, targets: outputs.argmax(-1) == targets})
"""


@pytest.fixture(autouse=True)
def own_project(tmp_path, monkeypatch):
    (tmp_path / "own_project.py").write_text(textwrap.dedent(OWN))
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


def own(seed=0, trainer=None, optimizer=None, **options):
    """A run of own components; options by the group that they belong to."""
    groups = {
        group: {"_target_": f"own_project.{name}", **options.get(group, {})}
        for group, name in (("model", "net"), ("data", "data"), ("augment", "noise"), ("objective", "objective"))
    }
    optimizer = {"_target_": "optax.adamw", "learning_rate": 0.01, **(optimizer or {})}
    trainer = TrainerConfig(batch_size=6, max_epochs=2, **(trainer or {}))
    return complete_config(Config(seed=seed, optimizer=optimizer, trainer=trainer, **groups))


def digests(configs, prepared, folder, **options):
    jobs = [Job(config, folder / str(number)) for number, config in enumerate(configs)]
    return {
        number: event.result["state_sha256"]
        for number, event in run_jobs(jobs, prepared, **options)
        if isinstance(event, Finished)
    }


def test_own_and_built_in_floats_compile_once_and_each_lane_has_the_bits_of_the_run_alone(tmp_path):
    configs = [
        own(),
        own(1, model={"rate": 0.2}),
        own(2, model={"slope": 0.3}, optimizer={"b2": 0.9, "eps": 1e-6}),
        own(3, augment={"strength": 1.0}, objective={"sharpness": 2.0}),
        own(4, optimizer={"learning_rate": 0.1, "weight_decay": 0.5}),
    ]
    prepared = prepare_runs(configs)
    assert len(prepared) == 1
    (run,) = prepared.values()
    found = digests(configs, run, tmp_path / "lanes", strategy="devices", num_lanes=5)
    assert len(set(found.values())) == 5  # each option has an effect
    for number, config in enumerate(configs):
        alone = digests([config], prepare_run(config), tmp_path / f"alone-{number}")
        assert alone[0] == found[number], number


def test_the_trainers_floats_share_a_program():
    configs = [
        own(trainer={"clip_norm": norm, "ema_decay": decay}) for norm, decay in ((1.0, 0.9), (0.5, 0.9), (1.0, 0.99))
    ]
    assert len({program_signature(config) for config in configs}) == 1
    assert program_signature(own(trainer={"clip_norm": 1.0})) != program_signature(own())


def test_a_value_that_changes_the_program_has_its_own():
    configs = [own(model={"rate": rate}) for rate in (0.5, 0.0, 0.2, 0.0)]
    signatures = [program_signature(config) for config in configs]
    assert signatures[0] == signatures[2] != signatures[1] == signatures[3]


@pytest.mark.parametrize(
    ("options", "programs"),
    [
        (["objective.label_smoothing={}", (0.05, 0.1, 0.2)], 1),
        (["objective.label_smoothing={}", (0.0, 0.1, 0.2)], 2),
        (["optimizer=adam optimizer.b2={}", (0.9, 0.99, 0.999)], 1),
        (["augment=affine augment.degrees={}", (1.0, 5.0, 10.0)], 1),
        (["augment=elastic augment.strength={}", (1.0, 30.0)], 1),
        (["schedule=cosine schedule.final_fraction={}", (0.0, 0.1, 0.2)], 1),
        (["schedule=cosine schedule.warmup_epochs={}", (1.0, 2.0)], 2),
        (["model=lenet model.hidden_units={}", (4, 8)], 2),
    ],
)
def test_built_in_floats_share_a_program_as_far_as_it_is_the_same(options, programs):
    text, values = options
    configs = [compose_config([*text.format(value).split(), "data.train_size=100"]) for value in values]
    assert len({program_signature(config) for config in configs}) == programs


def test_dropout_of_a_large_network_is_one_program():
    options = ["model=alexnet", "model.width=0.05", "model.image_size=96", "data.train_size=100"]
    configs = [compose_config([*options, f"model.dropout={rate}"]) for rate in (0.25, 0.5)]
    assert len({program_signature(config) for config in configs}) == 1
    assert program_signature(compose_config([*options[2:], *options[:1], "model.width=0.1"])) not in {
        program_signature(config) for config in configs
    }


def test_an_option_that_a_component_cannot_take_as_a_number_is_a_constant(tmp_path):
    path = tmp_path / "stubborn.py"
    path.write_text(
        "from own_project import net as _net\n"
        "TABLE = {0.1: 0.01, 0.2: 0.02}\n"
        "def net(*, input_shape, num_outputs, rate: float = 0.5, level: float = 0.1):\n"
        "    return _net(input_shape=input_shape, num_outputs=num_outputs, rate=rate, slope=TABLE[level])\n"
    )
    importlib.invalidate_caches()
    model = {"_target_": "stubborn.net"}
    run = prepare_run(own(model=model))
    assert run.as_constants == ("model.level",)
    assert "model.rate" in run.options
    signatures = [
        program_signature(own(model={**model, "level": level, "rate": r})) for level in (0.1, 0.2) for r in (0.3, 0.4)
    ]
    assert signatures[0] == signatures[1] != signatures[2] == signatures[3]


def test_the_components_of_an_option_are_built_with_its_number():
    assert components.signature("own_project.net").parameters["rate"].default == 0.5


def test_where_an_option_may_divide_an_array_lanes_are_one_after_another():
    small = ["data.train_size=100", "trainer.batch_size=10"]
    assert prepare_run(own()).may_divide  # a dropout rate
    assert not prepare_run(compose_config([*small, "optimizer=adam", "augment=affine"])).may_divide
    assert prepare_run(own(augment={"strength": 0.2})).may_divide
