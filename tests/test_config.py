import dataclasses
import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lenet_jax.config import (
    SCHEMAS,
    AdamConfig,
    AffineAugmentConfig,
    Config,
    CosineScheduleConfig,
    DataConfig,
    EarlyStoppingConfig,
    ExponentialScheduleConfig,
    LeNet5Config,
    LeNetConfig,
    MnistCnnConfig,
    MomentumConfig,
    RmsPropConfig,
    ScaledConjugateGradientConfig,
    SgdConfig,
    StepScheduleConfig,
    TrainerConfig,
    WindowClassifierConfig,
    from_dict,
)
from lenet_jax.errors import InputError

pytestmark = pytest.mark.usefixtures("without_type_checks")

POSITIVE = "a finite number above 0"
NON_NEGATIVE = "a finite number, 0 or above"
FRACTION = "a number from 0 to 1"
DECAY = "a number from 0 up to, not including, 1"
COUNT = "an integer, 1 or above"
ITERATIONS = "an integer from 1 to 2147483647"
SEED = "an integer from 0 to 4294967295"
TWO_COUNTS = "a list of two integers, each 1 or above"

NOT_POSITIVE = (0, -0.1, math.nan, math.inf, 10**400, True, "0.1", None)
NOT_NON_NEGATIVE = (-1e-9, math.nan, math.inf, False, "0", None)
NOT_FRACTION = (-0.01, 1.01, math.nan, True, "1", None)
NOT_COUNT = (0, -1, 1.0, 1.5, True, "1", None)

RULES = [
    (Config, "seed", SEED, (0, 1, 2**32 - 1), (-1, 2**32, 0.0, False, "0", None)),
    (LeNetConfig, "model.num_kernels", TWO_COUNTS, ((1, 1),), ((2,), (2, 3, 4), (), (0, 1), (1, True), (1, 2.0), 20)),
    (LeNetConfig, "model.kernel_size", COUNT, (1, 28), NOT_COUNT),
    (LeNetConfig, "model.pool_size", COUNT, (1,), NOT_COUNT),
    (LeNetConfig, "model.hidden_units", COUNT, (1,), NOT_COUNT),
    (WindowClassifierConfig, "model.num_kernels", COUNT, (1,), NOT_COUNT),
    (WindowClassifierConfig, "model.padding", "one of VALID, SAME", ("VALID", "SAME"), ("FULL", "valid", 0)),
    (LeNet5Config, "model.connections", "one of table, full, random", ("full",), ("none", 4)),
    (LeNet5Config, "model.rbf_scale", POSITIVE, (0.03, 1), NOT_POSITIVE),
    (LeNet5Config, "model.output", "one of rbf, softmax", ("softmax",), ("linear",)),
    (ScaledConjugateGradientConfig, "optimizer.initial_damping", POSITIVE, (1e-12, 1e-6), NOT_POSITIVE),
    (ScaledConjugateGradientConfig, "optimizer.difference_step", POSITIVE, (1e-4,), NOT_POSITIVE),
    (AffineAugmentConfig, "augment.degrees", NON_NEGATIVE, (0, 20.0), NOT_NON_NEGATIVE),
    (AffineAugmentConfig, "augment.scale", FRACTION, (0, 0.2), NOT_FRACTION),
    (AffineAugmentConfig, "augment.shear", FRACTION, (0, 0.2), NOT_FRACTION),
    (AffineAugmentConfig, "augment.shift", NON_NEGATIVE, (0, 2.0), NOT_NON_NEGATIVE),
    (LeNetConfig, "model.name", "'lenet'", ("lenet",), ("mnist_cnn", 1, ["lenet"])),
    (MnistCnnConfig, "model.num_kernels", TWO_COUNTS, ((1, 1),), ((2,), (2, 3, 4))),
    (SgdConfig, "optimizer.learning_rate", POSITIVE, (1e-9, 1, 1e6), NOT_POSITIVE),
    (SgdConfig, "optimizer.weight_decay", NON_NEGATIVE, (0, 1e-4), NOT_NON_NEGATIVE),
    (MomentumConfig, "optimizer.momentum", DECAY, (0, 0.999), (1, -0.1, math.nan, False)),
    (AdamConfig, "optimizer.b1", DECAY, (0, 0.999), (1, -0.1)),
    (AdamConfig, "optimizer.b2", DECAY, (0, 0.999), (1.0, -0.1)),
    (AdamConfig, "optimizer.eps", POSITIVE, (1e-12,), (0, -1e-8)),
    (RmsPropConfig, "optimizer.decay", DECAY, (0, 0.99), (1, -0.1)),
    (CosineScheduleConfig, "schedule.warmup_epochs", NON_NEGATIVE, (0, 0.5), NOT_NON_NEGATIVE),
    (CosineScheduleConfig, "schedule.final_fraction", FRACTION, (0, 1), NOT_FRACTION),
    (
        StepScheduleConfig,
        "schedule.epochs",
        "a list of integers, each 1 or above",
        ((1,), (5, 9)),
        ((), (0,), 5, (1.5,)),
    ),
    (StepScheduleConfig, "schedule.factor", FRACTION, (0, 1), NOT_FRACTION),
    (ExponentialScheduleConfig, "schedule.epoch_factor", FRACTION, (0, 1), NOT_FRACTION),
    (DataConfig, "data.name", "a text that is not empty", ("cifar10",), ("", 3, None)),
    (DataConfig, "data.source", "one of embedded, tfds, idx, pickle_archive", ("tfds",), ("csv", None)),
    (DataConfig, "data.directory", "null or a text that is not empty", (None, "a"), ("", 3)),
    (DataConfig, "data.manual_dir", "null or a text that is not empty", (None, "a"), ("", 3)),
    (DataConfig, "data.num_classes", f"null or {COUNT}", (None, 1), (0, 1.0, True)),
    (DataConfig, "data.train_size", f"null or {COUNT}", (None, 1), (0, 1.0, True)),
    (DataConfig, "data.validation_size", COUNT, (1,), NOT_COUNT),
    (DataConfig, "data.pixel_divisor", POSITIVE, (255, 256.0), NOT_POSITIVE),
    (TrainerConfig, "trainer.batch_size", f"null or {COUNT}", (None, 1), NOT_COUNT[:-1]),
    (TrainerConfig, "trainer.max_epochs", COUNT, (1,), NOT_COUNT),
    (TrainerConfig, "trainer.shuffle", "true or false", (True, False), (0, 1, "true", None)),
    (TrainerConfig, "trainer.matmul_precision", "one of default, high, highest", ("high",), ("bf16", None)),
    (TrainerConfig, "trainer.early_stopping", "an EarlyStoppingConfig", (EarlyStoppingConfig(),), (None, 5, {})),
    (EarlyStoppingConfig, "trainer.early_stopping.enabled", "true or false", (True, False), (0, None)),
    (EarlyStoppingConfig, "trainer.early_stopping.patience", ITERATIONS, (1, 2**31 - 1), (*NOT_COUNT, 2**31)),
    (EarlyStoppingConfig, "trainer.early_stopping.patience_increase", COUNT, (1,), NOT_COUNT),
    (EarlyStoppingConfig, "trainer.early_stopping.improvement_threshold", FRACTION, (0, 1), (1.1, -0.1, math.nan)),
]


def cases(which):
    return [(schema, key, rule, value) for schema, key, rule, *values in RULES for value in values[which]]


@pytest.mark.parametrize(("schema", "key", "_", "value"), cases(0))
def test_a_value_just_inside_its_rule_is_taken(schema, key, _, value):
    name = key.rpartition(".")[2]
    assert getattr(schema(**{name: value}), name) == value


@pytest.mark.parametrize(("schema", "key", "rule", "value"), cases(1))
def test_a_value_outside_its_rule_is_refused_with_key_rule_and_value(schema, key, rule, value):
    got = tuple(value) if isinstance(value, list) else value
    with pytest.raises(InputError) as refused:
        schema(**{key.rpartition(".")[2]: value})
    assert str(refused.value) == f"`{key}` must be {rule}; got {got!r}."


def test_every_key_has_a_rule_or_is_a_group():
    schemas = [Config, EarlyStoppingConfig, *(schema for options in SCHEMAS.values() for schema in options.values())]
    without = {f.name for schema in schemas for f in dataclasses.fields(schema) if "rule" not in f.metadata}
    assert without == set(SCHEMAS)


def test_a_list_becomes_a_tuple():
    assert LeNetConfig(num_kernels=[2, 3]).num_kernels == (2, 3)  # pyright: ignore[reportArgumentType]
    assert from_dict({"schedule": {"name": "step", "epochs": [4, 8]}}).schedule == StepScheduleConfig(epochs=(4, 8))


def test_a_configuration_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Config().seed = 3  # pyright: ignore[reportAttributeAccessIssue]


def test_nothing_given_is_the_default():
    assert from_dict({}) == from_dict({"model": {}, "trainer": {"early_stopping": {}}}) == Config()


@pytest.mark.parametrize("model", SCHEMAS["model"].values())
@pytest.mark.parametrize("optimizer", SCHEMAS["optimizer"].values())
@pytest.mark.parametrize("schedule", SCHEMAS["schedule"].values())
def test_asdict_is_undone_by_from_dict(model, optimizer, schedule):
    config = Config(model=model(), optimizer=optimizer(), schedule=schedule())
    assert from_dict(dataclasses.asdict(config)) == config


@given(
    seed=st.integers(0, 2**32 - 1),
    num_kernels=st.tuples(st.integers(1), st.integers(1)),
    learning_rate=st.floats(0, exclude_min=True, allow_infinity=False),
    epochs=st.lists(st.integers(1), min_size=1).map(tuple),
    directory=st.none() | st.text(min_size=1),
    threshold=st.floats(0, 1),
)
def test_asdict_is_undone_by_from_dict_for_any_values(seed, num_kernels, learning_rate, epochs, directory, threshold):
    config = Config(
        seed=seed,
        model=LeNetConfig(num_kernels=num_kernels),
        optimizer=AdamConfig(learning_rate=learning_rate),
        schedule=StepScheduleConfig(epochs=epochs),
        data=DataConfig(directory=directory),
        trainer=TrainerConfig(early_stopping=EarlyStoppingConfig(improvement_threshold=threshold)),
    )
    assert from_dict(dataclasses.asdict(config)) == config


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"sead": 1},
            "`configuration` has no 'sead'; choose one of: seed, augment, data, model, optimizer, schedule, trainer.",
        ),
        (
            {"model": {"name": "lenett"}},
            "`model.name` has no 'lenett'; choose one of: lenet, lenet5, alexnet, googlenet, "
            "mnist_cnn, resnet101, resnet152, resnet18, resnet34, resnet50, window_classifier, zfnet.",
        ),
        (
            {"model": {"name": ["lenet"]}},
            "`model.name` has no \"['lenet']\"; choose one of: lenet, lenet5, alexnet, googlenet, "
            "mnist_cnn, resnet101, resnet152, resnet18, resnet34, resnet50, window_classifier, zfnet.",
        ),
        (
            {"model": {"name": "lenet", "kernelsize": 3}},
            "`model` has no 'kernelsize'; choose one of: kernel_size, num_kernels, hidden_units, name, pool_size.",
        ),
        (
            {"optimizer": {"name": "sgd", "momentum": 0.9}},
            "`optimizer` has no 'momentum'; choose one of: learning_rate, name, weight_decay.",
        ),
        (
            {"trainer": {"early_stopping": {"patince": 1}}},
            "`trainer.early_stopping` has no 'patince'; "
            "choose one of: patience, enabled, improvement_threshold, patience_increase.",
        ),
        ({"model": None}, "`model` must be a group of keys; got None."),
        ({"model": "lenet"}, "`model` must be a group of keys; got 'lenet'."),
        ({"trainer": {"early_stopping": 3}}, "`trainer.early_stopping` must be a group of keys; got 3."),
    ],
)
def test_what_is_unknown_is_refused_with_its_place_and_the_valid_names(values, message):
    with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
        from_dict(values)


@pytest.mark.parametrize("group", ["model", "optimizer", "schedule"])
def test_a_group_takes_only_its_own_classes(group):
    with pytest.raises(InputError) as refused:
        Config(**{group: DataConfig()})  # pyright: ignore[reportArgumentType]
    assert str(refused.value).startswith(f"`{group}` must be one of {', '.join(SCHEMAS[group])}; got DataConfig(")
