"""What to write in place of an override that Hydra's grammar does not read."""

import re

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from lenet_jax.errors import InputError
from lenet_jax.hydra_app.checks import check_text, printable

_CLOSING = {")": "(", "]": "[", "}": "{"}


def describe_unreadable(override: str) -> str:
    """Return the message for an override that Hydra has not been able to parse.

    >>> print(describe_unreadable("notes=a;b"))
    `notes` must be a value in Hydra's grammar; got a;b; a text is quoted: "notes='a;b'".
    """
    key, equals, value = override.partition("=")
    try:
        check_text(key.lstrip("+~"), override)
    except InputError as error:
        return str(error)
    if not equals or not re.fullmatch(r"\+{0,2}[A-Za-z_][\w./@:$-]*", key):
        return f"an override must be KEY=VALUE, without spaces around the =; got {printable(override)}."
    return f"`{key.lstrip('+')}` must be a value in Hydra's grammar; got {printable(value)}; {_remedy(key, value)}."


def _remedy(key: str, value: str) -> str:
    if value == "~":
        return f"none is null: {key}=null"
    if not _is_closed(value):
        return "close each bracket, brace and quote"
    parts = [part.strip() for part in value.split(",")]
    if "" in parts:
        return f"nothing stands beside a comma: {key}={','.join(filter(None, parts))}"
    if re.fullmatch(r"\(.*\)", value):
        return f"a list has brackets: {key}=[{value[1:-1]}]"
    quoted = f"{key}='{value}'"
    return f'a text is quoted: "{quoted}"' if _is_readable(quoted) else "put a text in quotes"


def _is_closed(value: str) -> bool:
    """Return whether all brackets are closed outside of quotes, and the quotes as well."""
    text = re.sub(r"""(["']).*?\1""", "", value)
    opened: list[str] = []
    for character in text:
        if character in _CLOSING.values():
            opened.append(character)
        elif character in _CLOSING and (not opened or opened.pop() != _CLOSING[character]):
            return False
    return not opened and not {"'", '"'} & set(text)


def _is_readable(override: str) -> bool:
    try:
        OverridesParser.create().parse_overrides([override])
    except HydraException:
        return False
    return True
