import re

import pytest

from lenet_jax import composition

pytestmark = pytest.mark.usefixtures("without_type_checks")

CONF = composition.config_directory()
FILES = sorted(path.relative_to(CONF) for path in CONF.rglob("*.yaml"))
OPTIONS = {
    folder.name: {path.stem for path in folder.glob("*.yaml")}
    for folder in CONF.iterdir()
    if folder.is_dir() and folder.name != "hydra"
}


@pytest.mark.parametrize("group", sorted(OPTIONS.keys() - {"experiment"}))
def test_the_table_of_contents_lists_the_options_of_a_group(group):
    listed = re.search(rf"^  - {group}: \w+ # (.+)$", (CONF / "config.yaml").read_text(), re.MULTILINE)
    assert listed, f"config.yaml has no line about {group}"
    assert sorted(listed[1].split(", ")) == sorted(OPTIONS[group])
