"""The folds of cross-validation are disjoint, cover all examples, and are the data of one program."""

import re

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lenet_jax import Dataset, Split, load_dataset
from lenet_jax.components import complete_config, complete_group
from lenet_jax.config import from_dict
from lenet_jax.config.folds import Fold
from lenet_jax.data.folds import assign_folds, build_data, divide
from lenet_jax.errors import InputError
from lenet_jax.runs.prepared_run import prepare_run, program_signature

EMBEDDED = {"_target_": "lenet_jax.data.load_embedded"}


def own_data(n: int = 30):
    """Numbers to regress on; the inputs number the examples."""
    split = lambda a, b: Split(np.arange(a, b, dtype=np.float32)[:, None], np.arange(a, b, dtype=np.float32)[:, None])  # noqa: E731
    return Dataset(split(0, n - 10), split(n - 10, n), split(100, 105), num_classes=1)


def own_folds(fold: int = 0, folds: int = 2):
    """A function that divides its data itself."""
    assert (fold, folds) == (1, 7)
    return own_data()


def weighted_data():
    """Labels with weights, and inputs by name."""

    def split(n):
        targets = {"targets": np.arange(n, dtype=np.int32) % 3, "weights": np.ones(n, np.float32)}
        return Split({"image": np.zeros((n, 2), np.float32)}, targets)

    return Dataset(split(9), split(9), split(3), num_classes=3)


OWN = {"_target_": f"{__name__}.own_data"}


@given(labels=st.lists(st.integers(0, 4), min_size=10, max_size=200), folds=st.integers(2, 10))
def test_each_fold_has_its_share_of_every_label(labels, folds):
    labels = np.array(labels)
    parts = assign_folds(labels, folds)
    for chosen in [labels == label for label in range(5)] + [labels >= 0]:
        counts = [int((parts[chosen] == number).sum()) for number in range(folds)]
        assert sum(counts) == chosen.sum()  # each example in one fold
        assert max(counts) - min(counts) <= 1
    assert np.array_equal(parts, assign_folds(labels, folds))


@pytest.mark.parametrize("folds", [2, 3, 7, 30])
def test_folds_of_own_data_are_disjoint_and_cover_it_and_the_test_set_is_untouched(folds):
    seen = []
    for number in range(folds):
        data = build_data({**OWN, "folds": folds, "fold": number})
        train, validation = (sorted(split.inputs[:, 0].tolist()) for split in (data.train, data.validation))
        assert sorted(train + validation) == list(range(30))
        np.testing.assert_array_equal(data.validation.inputs, data.validation.targets)
        np.testing.assert_array_equal(data.test.inputs[:, 0], np.arange(100, 105))
        seen += validation
    assert sorted(seen) == list(range(30))


def test_a_data_set_by_name_is_divided_too():
    whole, data = load_dataset(), load_dataset(folds=5, fold=2)
    assert [len(split.targets) for split in data.splits().values()] == [3600, 900, 500]
    np.testing.assert_array_equal(data.test.inputs, whole.test.inputs)
    counts = [np.bincount(load_dataset(folds=5, fold=number).validation.targets) for number in range(5)]
    assert np.ptp(counts, axis=0).max() <= 1


def test_structured_examples_are_divided_by_their_labels():
    data = build_data({"_target_": f"{__name__}.weighted_data", "folds": 3, "fold": 0})
    assert data.validation.inputs["image"].shape == (6, 2)
    assert np.bincount(data.validation.targets["targets"]).tolist() == [2, 2, 2]


def test_a_traced_fold_is_the_same_data():
    folded = divide(load_dataset(), Fold(5, 0))
    traced = jax.jit(lambda folded, fold: folded.at(fold))(folded, np.int32(3))
    expected = folded.at(3)
    for one, other in zip(jax.tree.leaves(traced), jax.tree.leaves(expected), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_function_that_has_folds_itself_divides_its_data_itself():
    node = complete_group("data", {"_target_": f"{__name__}.own_folds", "folds": 7, "fold": 1})
    assert len(build_data(node).train.targets) == 20


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"folds": 5},
            "`data.folds` must have the fold that validates beside it, data.fold=0 to 4; "
            "in a sweep all of them are data.fold=range(5).",
        ),
        ({"fold": 2}, "`data.fold` must have the number of folds beside it, as data.folds=5; got 2."),
        ({"folds": 5, "fold": 5}, "`data.fold` must be 0 to 4, as data.folds is 5; got 5."),
        ({"folds": 1, "fold": 0}, "`data.folds` must be an integer, 2 or above; got 1."),
        ({"folds": 5, "fold": -1}, "`data.fold` must be an integer, 0 or above; got -1."),
        (
            {"folds": 5, "fold": 1, "train_on_validation": True},
            "`data.train_on_validation` must be false with data.folds",
        ),
        ({"foldz": 5}, "`data` has no 'foldz'; choose one of: fold, folds, "),
    ],
)
def test_what_cannot_be_a_fold_is_refused(options, message, without_type_checks):
    with pytest.raises(InputError, match=re.escape(message)):
        complete_group("data", {**EMBEDDED, **options})


def test_more_folds_than_examples_are_refused():
    with pytest.raises(InputError, match=re.escape("`data.folds` must be at most the number of examples, 30; got 31.")):
        build_data({**OWN, "folds": 31, "fold": 0})


def configure(folds, fold, **options):
    data = {**OWN, "folds": folds, "fold": fold, **options}
    objective, model = {"_target_": "lenet_jax.objectives.regression"}, {"_target_": "tests.linear.linear"}
    return complete_config(
        from_dict({"data": data, "objective": objective, "model": model, "trainer": {"batch_size": 5}})
    )


def test_folds_of_one_size_share_a_program(without_type_checks):
    signatures = [program_signature(configure(5, fold)) for fold in range(5)]
    assert len(set(signatures)) == 1
    of_other_sizes = [program_signature(configure(4, fold)) for fold in range(4)]  # 30 examples: 8, 8, 7, 7
    assert len(set(of_other_sizes)) == 2
    assert of_other_sizes[0] == of_other_sizes[1] != of_other_sizes[2] == of_other_sizes[3]


def test_all_folds_record_the_same_data(without_type_checks):
    first, second = (prepare_run(configure(5, fold)).describe_data() for fold in (0, 3))
    assert first == second
    assert (first["train"], first["validation"], first["test"], first["folds"]) == (24, 6, 5, 5)
