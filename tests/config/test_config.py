import dataclasses
import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lenet_jax.config import Config, EarlyStoppingConfig, SweepConfig, TrainerConfig, from_dict, to_dict
from lenet_jax.config.catalogue import GROUPS, built_in
from lenet_jax.errors import InputError

pytestmark = pytest.mark.usefixtures("without_type_checks")

POSITIVE = "a finite number above 0"
FRACTION = "a number from 0 to 1"
DECAY = "a number from 0 up to, not including, 1"
COUNT = "an integer, 1 or above"
ITERATIONS = "an integer from 1 to 2147483647"
SEED = "an integer from 0 to 4294967295"
NOT_COUNT = (0, -1, 1.0, 1.5, True, "1", None)

RULES = [
    (Config, "seed", SEED, (0, 1, 2**32 - 1), (-1, 2**32, 0.0, False, "0", None)),
    (Config, "notes", "a text", ("", "lr too high?"), (3, None)),
    (Config, "tags", "a list of texts", ((), ("a", "b")), ("a", (1,))),
    (TrainerConfig, "trainer.batch_size", f"null or {COUNT}", (None, 1), NOT_COUNT[:-1]),
    (TrainerConfig, "trainer.max_epochs", COUNT, (1,), NOT_COUNT),
    (TrainerConfig, "trainer.shuffle", "true or false", (True, False), (0, 1, "true", None)),
    (TrainerConfig, "trainer.checkpoint_every", f"null or {COUNT}", (None, 1), NOT_COUNT[:-1]),
    (TrainerConfig, "trainer.matmul_precision", "one of default, high, highest", ("high",), ("bf16", None)),
    (TrainerConfig, "trainer.compute_dtype", "one of float32, bfloat16", ("bfloat16",), ("float16", None)),
    (TrainerConfig, "trainer.grad_accumulation_steps", COUNT, (1,), NOT_COUNT),
    (TrainerConfig, "trainer.clip_norm", f"null or {POSITIVE}", (None, 1, 0.5), (0, -1, math.inf, True)),
    (TrainerConfig, "trainer.ema_decay", f"null or {DECAY}", (None, 0, 0.999), (1, -0.1, math.nan, False)),
    (TrainerConfig, "trainer.deterministic", "true or false", (True, False), (0, None)),
    (TrainerConfig, "trainer.weights", "one of best, last, both", ("best", "last", "both"), ("first", None)),
    (Config, "init", "null or a text that is not empty", (None, "run"), ("", 3)),
    (Config, "init_include", "a list of texts", (("conv*/*",), ()), ("conv1", (1,))),
    (Config, "init_exclude", "a list of texts", ((), ("*/bias",)), ("bias", (1,))),
    (TrainerConfig, "trainer.keep_state", "true or false", (True, False), (0, None)),
    (TrainerConfig, "trainer.running_metrics", "true or false", (True, False), (0, None)),
    (TrainerConfig, "trainer.early_stopping", "an EarlyStoppingConfig", (EarlyStoppingConfig(),), (None, 5, {})),
    (EarlyStoppingConfig, "trainer.early_stopping.enabled", "true or false", (True, False), (0, None)),
    (EarlyStoppingConfig, "trainer.early_stopping.patience", ITERATIONS, (1, 2**31 - 1), (*NOT_COUNT, 2**31)),
    (EarlyStoppingConfig, "trainer.early_stopping.patience_increase", COUNT, (1,), NOT_COUNT),
    (EarlyStoppingConfig, "trainer.early_stopping.improvement_threshold", FRACTION, (0, 1), (1.1, -0.1, math.nan)),
    (
        EarlyStoppingConfig,
        "trainer.early_stopping.min_delta",
        "a finite number, 0 or above",
        (0, 0.5),
        (-0.1, math.nan),
    ),
    (SweepConfig, "sweep.strategy", "one of auto, map, devices, vmap", ("vmap",), ("pmap", None)),
    (SweepConfig, "sweep.max_parallel", f"null or {COUNT}", (None, 1), NOT_COUNT[:-1]),
    (SweepConfig, "sweep.on_failure", "one of continue, stop", ("stop",), ("retry", None)),
]


def cases(which):
    return [(schema, key, rule, value) for schema, key, rule, *values in RULES for value in values[which]]


@pytest.mark.parametrize(("schema", "key", "_", "value"), cases(0))
def test_a_value_just_inside_its_rule_is_taken(schema, key, _, value):
    name = key.rpartition(".")[2]
    assert getattr(schema(**{name: value}), name) == value


@pytest.mark.parametrize(("schema", "key", "rule", "value"), cases(1))
def test_a_value_outside_its_rule_is_refused_with_key_rule_and_value(schema, key, rule, value):
    with pytest.raises(InputError) as refused:
        schema(**{key.rpartition(".")[2]: value})
    assert str(refused.value) == f"`{key}` must be {rule}; got {'null' if value is None else repr(value)}."


def test_every_key_has_a_rule_or_is_a_group():
    schemas = (Config, TrainerConfig, EarlyStoppingConfig, SweepConfig)
    keys = {(schema, field.name) for schema in schemas for field in dataclasses.fields(schema)}
    with_rule = {(schema, key.rpartition(".")[2]) for schema, key, *_ in RULES}
    assert keys - with_rule == {(Config, group) for group in (*GROUPS, "trainer")}


def test_a_configuration_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Config().seed = 3  # pyright: ignore[reportAttributeAccessIssue]


def test_nothing_given_is_the_default():
    assert from_dict({}) == from_dict({"trainer": {"early_stopping": {}}}) == Config()
    assert from_dict({}).model == built_in("model")["lenet"]


NODES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(min_size=1), inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.parametrize("group", GROUPS)
def test_to_dict_is_undone_by_from_dict_for_any_built_in(group):
    for node in built_in(group).values():
        config = Config(**{group: node})
        assert from_dict(to_dict(config)) == config


@given(
    seed=st.integers(0, 2**32 - 1),
    options=st.dictionaries(st.text(min_size=1).filter(lambda key: not key.startswith("_")), NODES, max_size=4),
    batch_size=st.none() | st.integers(1),
    threshold=st.floats(0, 1),
)
def test_to_dict_is_undone_by_from_dict_for_any_values(seed, options, batch_size, threshold):
    node = {"_target_": "mylab.nets.tiny", **options}
    config = Config(
        seed=seed,
        model=node,
        augment=[node, node],
        trackers={"a": node},
        trainer=TrainerConfig(batch_size, early_stopping=EarlyStoppingConfig(improvement_threshold=threshold)),
    )
    assert from_dict(to_dict(config)) == config


def test_a_dictionary_of_a_configuration_has_plain_values_only():
    config = Config(model={"_target_": "a.b", "sizes": (1, (2, 3))}, augment=({"_target_": "a.c"},))
    values = to_dict(config)
    assert values["model"] == {"_target_": "a.b", "sizes": [1, [2, 3]]}
    assert values["augment"] == [{"_target_": "a.c"}]
    assert values["trainer"]["early_stopping"]["patience"] == 10_000


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"sead": 1},
            "`configuration` has no 'sead'; choose one of: "
            "seed, augment, data, init, init_exclude, init_include, model, notes, objective, optimizer, schedule, "
            "sharding, tags, trackers, trainer.",
        ),
        (
            {"trainer": {"early_stopping": {"patince": 1}}},
            "`trainer.early_stopping` has no 'patince'; "
            "choose one of: patience, enabled, improvement_threshold, min_delta, patience_increase.",
        ),
        ({"model": None}, "`model` must name its function, as model._target_=package.module.function; got None."),
        ({"model": "lenet"}, "`model` must name its function, as model._target_=package.module.function; got 'lenet'."),
        ({"model": {}}, "`model` must name its function, as model._target_=package.module.function; got {}."),
        (
            {"optimizer": {"_target_": ["os", "system"]}},
            "`optimizer` must name its function, as optimizer._target_=package.module.function; "
            "got {'_target_': ['os', 'system']}.",
        ),
        (
            {"trainer": {"early_stopping": 3}},
            "`trainer.early_stopping` must be a group of keys; got 3; set one of "
            + ", ".join(
                f"trainer.early_stopping.{key}"
                for key in ("enabled", "patience", "patience_increase", "improvement_threshold", "min_delta")
            )
            + ".",
        ),
    ],
)
def test_what_is_unknown_is_refused_with_its_place_and_the_valid_names(values, message):
    with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
        from_dict(values)


@pytest.mark.parametrize("group", ["model", "data", "optimizer", "schedule", "objective"])
def test_a_group_takes_a_component_only(group):
    with pytest.raises(InputError, match=rf"^`{group}` must name its function, as {group}\._target_="):
        Config(**{group: TrainerConfig()})  # pyright: ignore[reportArgumentType]
