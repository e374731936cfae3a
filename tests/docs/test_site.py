"""The site is built without a warning; its links lead somewhere, and nothing in it asks for a network."""

import html
import os
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote, urldefrag

import pytest

import lenet_jax as lj
from tests.conftest import ROOT


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    for module in ("sphinx", "myst_parser", "furo"):
        pytest.importorskip(module)
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-d", folder / "state"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    built = subprocess.run(
        [*command, ROOT / "docs", folder / "html"], capture_output=True, text=True, env=environment, check=False
    )
    assert built.returncode == 0, built.stderr
    return {path.relative_to(folder / "html"): path.read_text() for path in (folder / "html").rglob("*.html")}, folder


def test_the_site_has_its_pages_and_all_public_names(site):
    pages, _ = site
    for name in ("start", "command-line", "tutorial", "sweeps", "project/changelog", "systems/theano_lenet"):
        assert Path(f"{name}.html") in pages
    reference = "".join(text for path, text in pages.items() if path.parts[0] == "reference")
    public = [name for name in lj.__all__ if not isinstance(getattr(lj, name), type(lj))]
    assert [name for name in public if not re.search(rf'id="lenet_jax\.(\w+\.)*{name}"', reference)] == []


def test_links_within_the_site_lead_somewhere(site):
    pages, folder = site
    ids = {path: set(re.findall(r'\bid="([^"]+)"', text)) for path, text in pages.items()}
    broken = []
    for path, text in pages.items():
        for link in map(html.unescape, re.findall(r'<a [^>]*?href="([^"]+)"', text)):
            if re.match(r"[a-z]+:", link):
                continue
            target, anchor = urldefrag(unquote(link))
            page = (path.parent / target) if target else path
            page = Path(os.path.normpath(page))
            if not (folder / "html" / page).exists() or (anchor and anchor not in ids.get(page, {anchor})):
                broken.append((str(path), link))
    assert broken == []


def test_no_page_asks_for_a_network(site):
    pages, folder = site
    loaded = r'<(?:script|img|iframe)[^>]*?src="(https?:)?//|<link[^>]*?rel="stylesheet"[^>]*?href="(https?:)?//'
    assert [str(path) for path, text in pages.items() if re.search(loaded, text)] == []
    styles = [
        path for path in (folder / "html").rglob("*.css") if re.search(r"url\(['\"]?(https?:)?//", path.read_text())
    ]
    assert styles == []
