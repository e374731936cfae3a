"""Print what an environment holds, as a CycloneDX bill of materials (SBOM) in JSON.

    .venv/bin/python .ci/sbom.py > sbom.json

It reads the metadata of the installed packages and nothing else: no network, no pip, no clock, so that the same
environment gives the same bytes.
"""

import json
import re
from importlib import metadata


def identifier(name: str, version: str) -> str:
    """Return the package URL (purl) of a distribution."""
    return f"pkg:pypi/{re.sub(r'[-_.]+', '-', name).lower()}@{version}"


def component(distribution: metadata.Distribution) -> dict:
    """Return a distribution as a component, with the licence that it states."""
    name, version = distribution.metadata["Name"], distribution.version
    expression, text = (distribution.metadata.get(key) for key in ("License-Expression", "License"))
    named = [{"license": {"name": text.strip().splitlines()[0]}}] if text and text.strip() else []
    return {
        "type": "library",
        "bom-ref": identifier(name, version),
        "name": name,
        "version": version,
        "purl": identifier(name, version),
        "licenses": [{"expression": expression}] if expression else named,
    }


def bill_of_materials() -> dict:
    """Return all distributions that Python finds, the first one of each name."""
    found: dict[str, dict] = {}
    for distribution in metadata.distributions():
        each = component(distribution)
        found.setdefault(each["purl"].rpartition("@")[0], each)
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "components": [found[key] for key in sorted(found)],
    }


if __name__ == "__main__":
    print(json.dumps(bill_of_materials(), indent=2))
