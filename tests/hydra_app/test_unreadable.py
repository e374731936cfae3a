"""An override that Hydra cannot parse is refused with one to write in its place; that one is parsed."""

import re

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import OverrideParseException

from lenet_jax.hydra_app.unreadable import describe_unreadable


@pytest.mark.parametrize(
    ("override", "remedy", "value"),
    [
        ("hydra.run.dir=runs/lr=0.1", "\"hydra.run.dir='runs/lr=0.1'\"", "runs/lr=0.1"),
        ("data.directory=~/mnist", "\"data.directory='~/mnist'\"", "~/mnist"),
        ("data.directory=a;b", "\"data.directory='a;b'\"", "a;b"),
        ("++notes=50% & more", "\"++notes='50% & more'\"", "50% & more"),
        ("notes=größe", "\"notes='größe'\"", "größe"),
        ("model.num_kernels=(2,3)", "a list has brackets: model.num_kernels=[2,3]", [2, 3]),
        ("data.directory=~", "none is null: data.directory=null", None),
        ("seed=0,1,", "nothing stands beside a comma: seed=0,1", [0, 1]),
        ("seed=,0,,1", "nothing stands beside a comma: seed=0,1", [0, 1]),
    ],
)
def test_what_to_write_is_parsed(override, remedy, value):
    message = describe_unreadable(override)
    assert message.startswith(f"`{override.lstrip('+').partition('=')[0]}` must be a value in Hydra's grammar; got ")
    assert message.endswith(f"{remedy}.")
    (parsed,) = OverridesParser.create().parse_overrides([re.sub(r"^.*: |\"", "", remedy)])
    found = list(parsed.sweep_iterator()) if parsed.is_discrete_sweep() else parsed.value()
    assert [*map(int, found)] == value if isinstance(value, list) else found == value


@pytest.mark.parametrize("override", ["seed=[1", "seed={a:1", "notes='a", 'notes="a', "a=[1)", "a=b)", "a=range(0,"])
def test_what_is_open_is_to_be_closed(override):
    assert describe_unreadable(override).endswith("; close each bracket, brace and quote.")


@pytest.mark.parametrize("override", ["seed", "seed =3", "1a=3", "", "=x=y"])
def test_an_override_is_a_key_and_a_value(override):
    with pytest.raises(OverrideParseException):
        OverridesParser.create().parse_overrides([override or " "])
    assert describe_unreadable(override).startswith("an override must be KEY=VALUE, without spaces around the =; got")


def test_control_characters_are_named():
    assert "must not hold control characters or broken Unicode; got '\\r' in it" in describe_unreadable("seed=3\r")
