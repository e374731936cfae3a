"""The configuration reference, from what the command line itself reads: files of `conf/`, signatures, dataclasses.

The directive `components GROUP` has a section for each function that files of a group name, `keys CLASS` a table of
the fields of a configuration dataclass, `sweepers` the files of `conf/hydra/sweeper`.
"""

import dataclasses
import inspect
import json
import re
import typing
from collections.abc import Iterable, Mapping
from typing import Any

import yaml
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from lenet_jax import config
from lenet_jax.config import catalogue, checks


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directives."""
    app.add_directive("components", Components)
    app.add_directive("keys", Keys)
    app.add_directive("sweepers", Sweepers)
    return {"parallel_read_safe": True}


class Components(SphinxDirective):
    """The built-in components of a group."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Return a section for each function."""
        return self.parse_text_to_nodes(group_page(self.arguments[0]), allow_section_headings=True)


class Keys(SphinxDirective):
    """The fields of a dataclass of `lenet_jax.config`."""

    required_arguments = 1
    optional_arguments = 1  # what stands before each name

    def run(self) -> list[nodes.Node]:
        """Return the table."""
        prefix = self.arguments[1] if len(self.arguments) > 1 else ""
        return self.parse_text_to_nodes(fields_table(getattr(config, self.arguments[0]), prefix))


class Sweepers(SphinxDirective):
    """The files of the sweepers."""

    def run(self) -> list[nodes.Node]:
        """Return a section for each file."""
        folder = catalogue.config_directory()
        names = catalogue.option_names(folder, "hydra/sweeper")
        texts = {
            name: folder.joinpath("hydra", "sweeper", f"{name}.yaml").read_text(encoding="utf-8") for name in names
        }
        lines = [f"## hydra/sweeper={name}\n\n```yaml\n{text}```\n" for name, text in texts.items()]
        return self.parse_text_to_nodes("\n".join(lines), allow_section_headings=True)


def group_page(group: str) -> str:
    """Return the Markdown of a group: the functions that its files name, and each one's options."""
    files: dict[str, list[str]] = {}
    for name, content in catalogue.built_in(group).items():
        node = _component(content, name)
        if catalogue.TARGET in node:
            files.setdefault(node[catalogue.TARGET], []).append(name)
    return "\n".join(
        _section(group, target, names) for target, names in sorted(files.items(), key=lambda each: each[1])
    )


def _component(content: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Return the component of a file; a tracker stands below its name there."""
    below = content.get(name)
    return below if isinstance(below, Mapping) else content


def _section(group: str, target: str, names: list[str]) -> str:
    signature = catalogue.read_signature(target)
    assert signature is not None, target
    meanings = arguments_of(signature.doc)
    given = catalogue.SURROUNDINGS.get(group, ())
    rows = [
        (name, values_of(parameter.annotation), default_of(parameter.default), meanings.get(name, ""))
        for name, parameter in signature.parameters.items()
        if name not in given
    ]
    if signature.any_name:
        rows.append(("...", "", "", next((text for name, text in meanings.items() if name.startswith("**")), "")))
    choices = [f"- `{group}={name}`: {_comment(group, name)}{_settings(group, name)}" for name in names]
    summary = signature.doc.partition("\n\n")[0].replace("\n", " ")
    parts = [f"## {', '.join(names)}", f"{summary} Function: `{target}`.", "\n".join(choices)]
    if rows:
        parts.append(table(["option", "values", "default", "meaning"], rows))
    return "\n\n".join(parts) + "\n"


def _comment(group: str, name: str) -> str:
    """Return what the file of a component says in its first lines."""
    text = catalogue.config_directory().joinpath(group, f"{name}.yaml").read_text(encoding="utf-8")
    lines = [line.lstrip("# ") for line in text.splitlines() if line.startswith("#")]
    return " ".join(lines).replace("_", r"\_").replace("*", r"\*")


def _settings(group: str, name: str) -> str:
    """Return which options the file of a component sets."""
    node = _component(catalogue.built_in(group)[name], name)
    options = {key: value for key, value in node.items() if key != catalogue.TARGET}
    shown = yaml.safe_dump(options, default_flow_style=True, width=1000, sort_keys=False).strip()[1:-1]
    return f" It sets `{shown}`." if options else ""


def arguments_of(doc: str) -> dict[str, str]:
    """Return the section Args of a docstring: name -> meaning."""
    found = re.search(r"^Args:\n((?:    .*\n?|\n)*)", doc, re.MULTILINE)
    entries = re.findall(r"^    (\S[^:\n]*): ((?:.*\n?)(?:     .*\n?)*)", found[1] if found else "", re.MULTILINE)
    return {name: " ".join(text.split()) for name, text in entries}


def fields_table(schema: type, prefix: str) -> str:
    """Return a table of the fields of a dataclass; their meaning is the comment of their line."""
    comments = dict(re.findall(r"^    (\w+): .* = .*?  # (.*)$", inspect.getsource(schema), re.MULTILINE))
    hints = typing.get_type_hints(schema, include_extras=True)
    rows = [
        (prefix + field.name, values_of(hints[field.name]), default_of(_default(field)), comments.get(field.name, ""))
        for field in dataclasses.fields(schema)
        if not dataclasses.is_dataclass(hints[field.name]) and field.name not in catalogue.GROUPS
    ]
    return table(["key", "values", "default", "meaning"], rows)


def _default(field: dataclasses.Field) -> Any:
    return field.default_factory() if callable(field.default_factory) else field.default


def values_of(annotation: Any) -> str:
    """Return which values an option takes."""
    if annotation is Any:
        return ""
    return re.sub(r"\bone of (.+)$", r"\1", checks.describe(annotation))


def default_of(value: Any) -> str:
    """Return a default as the command line takes it."""
    if value is catalogue.REQUIRED:
        return "must be given"
    text = value if isinstance(value, str) and value else json.dumps(_plain(value))
    return f"`{text}`"


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, tuple | list) else value


def table(head: list[str], rows: Iterable[tuple[str, ...]]) -> str:
    """Return a table in Markdown; the first column is code."""
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    for name, *cells in rows:
        lines.append("| " + " | ".join([f"`{name}`", *(cell.replace("|", r"\|") for cell in cells)]) + " |")
    return "\n".join(lines) + "\n"
