"""A page in a headless Chromium, without a network: what its scripts say, and what the browser complains about."""

import html
import json
import re
import shutil
import subprocess
from typing import NamedTuple

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")

_ASK = """
<script>window.onload = () => setTimeout(() => {
  const frame = document.querySelector("iframe").contentWindow, page = frame.document;
  const found = { scroll_width: page.documentElement.scrollWidth, width: frame.innerWidth,
    requests: frame.performance.getEntriesByType("resource").map(each => each.name)
      .filter(name => !name.startsWith("data:")),
    answer: ((window, document) => (%s))(frame, page),
    scheme: frame.getComputedStyle(page.body).backgroundColor };
  document.body.textContent = "found" + JSON.stringify(found) + "end";
}, 200)</script>
"""


class Shown(NamedTuple):
    """What a browser tells of a page."""

    scroll_width: int
    width: int
    requests: list
    answer: object
    scheme: str
    console: list


def show(page, folder, *, width, dark=False, ask="null"):
    """Show a page in a frame of so many pixels, and return what the browser tells, and the answer of a script."""
    frame = f'<iframe style="border:0;width:{width}px;height:900px" srcdoc="{html.escape(page)}"></iframe>'
    outer = folder / "outer.html"
    outer.write_text(f'<!doctype html><meta charset="utf-8"><body style="margin:0">{frame}{_ASK % ask}')
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom", "--enable-logging=stderr"]
    command += [f"--blink-settings=preferredColorScheme={0 if dark else 1}", "--virtual-time-budget=4000"]
    command += [f"--user-data-dir={folder / 'profile'}", "--host-resolver-rules=MAP * ~NOTFOUND"]
    found = subprocess.run([*command, outer.as_uri()], capture_output=True, text=True, timeout=120, check=True)
    answer = re.search(r"found(\{.*\})end", found.stdout, re.DOTALL)
    assert answer is not None, found.stderr
    console = [line for line in found.stderr.splitlines() if "CONSOLE" in line]
    return Shown(**json.loads(html.unescape(answer[1])), console=console)
