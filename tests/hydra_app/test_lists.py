"""Lists of components: on the command line, in files, in sweeps; they replace what was there."""

import pytest

from lenet_jax.components import short_name
from lenet_jax.errors import InputError
from lenet_jax.hydra_app.composition import compose, compose_config, open_hydra, to_config

FLIP, CROP = "lenet_jax.augment.random_flip", "lenet_jax.augment.random_crop"


def names(config):
    return [short_name(each) for each in config.augment]


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        (f"augment=[{{_target_: {FLIP}}},{{_target_: {CROP}, margin: 2}}]", ["random_flip", "random_crop"]),
        (f"++augment=[{{_target_: {CROP}, margin: 2}}]", ["random_crop"]),
        ("augment=[affine,elastic]", ["random_affine", "elastic"]),
        (f"augment=[affine,{{_target_: {FLIP}}}]", ["random_affine", "random_flip"]),
        ("augment=[]", []),
    ],
)
def test_a_list_on_the_command_line_is_in_its_order(override, expected):
    config = compose_config([override])
    assert names(config) == expected
    assert names(compose_config(["augment=photo", override])) == expected  # nothing of the one before is left


def test_options_of_a_list_are_complete_and_checked():
    assert compose_config([f"augment=[{{_target_: {CROP}, margin: 2}}]"]).augment[0]["margin"] == 2
    with pytest.raises(InputError, match=r"`augment\[0\]\.margin` must be an integer, 0 or above"):
        compose_config([f"augment=[{{_target_: {CROP}, margin: -2}}]"])
    with pytest.raises(InputError, match="has no 'afine'; choose one of: affine"):
        compose_config(["augment=[afine]"])


def test_a_list_in_a_file_replaces_the_default(tmp_path):
    (tmp_path / "experiment").mkdir()
    text = f"# @package _global_\naugment:\n- {{_target_: {FLIP}}}\n- {{_target_: {CROP}, margin: 1}}\n"
    (tmp_path / "experiment" / "mine.yaml").write_text(text)
    with open_hydra(config_dir=str(tmp_path)) as hydra:
        composed = compose(hydra, ["experiment=mine"])
        assert names(to_config(composed)) == ["random_flip", "random_crop"]


def test_what_was_typed_is_what_is_recorded():
    override = f"augment=[{{_target_: {FLIP}}}]"
    with open_hydra() as hydra:
        assert list(compose(hydra, [override, "seed=3"]).hydra.overrides.task) == [override, "seed=3"]


def test_trackers_by_name_can_still_be_set():
    config = compose_config(["trackers=[csv]", "trackers.csv.name=mine.csv"])
    assert config.trackers["csv"]["name"] == "mine.csv"
    tracker = "lenet_jax.trackers.csv_file.csv_file"
    config = compose_config([f"trackers=[{{_target_: {tracker}, name: a.csv}},{{_target_: {tracker}, name: b.csv}}]"])
    assert [each["name"] for each in config.trackers] == ["a.csv", "b.csv"]


@pytest.mark.parametrize("group", ["augment", "trackers"])
def test_an_empty_list_is_none_of_them(group):
    assert not getattr(compose_config([f"{group}=[]"]), group)


def test_other_groups_take_no_list():
    with pytest.raises(InputError, match="`model` must be one file of conf/model, or a component; got model="):
        compose_config(["model=[lenet,lenet5]"])


@pytest.mark.parametrize("option", ["augment.degrees=3", "+augment.noise._target_=mylab.noise", "~augment.degrees"])
def test_an_option_beside_a_list_is_refused_and_before_it_is_replaced(option):
    with pytest.raises(
        InputError, match=r"`augment\.\S+` must be set in the list that is given for augment, augment=\["
    ):
        compose_config(["augment=[affine,elastic]", option])
    if not option.startswith("~"):
        assert names(compose_config(["augment=affine", option, "augment=[elastic]"])) == ["elastic"]
    assert compose_config(["augment=[elastic]", "augment=affine", "augment.degrees=3"]).augment["degrees"] == 3
