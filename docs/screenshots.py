"""Make the pictures of docs/_static/screenshots again: `python docs/screenshots.py`, some minutes.

It trains a run, in a terminal of tmux, and a sweep in a temporary folder, and takes the pictures by Chromium without a
window.
"""

import io
import platform
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from PIL import Image
from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

FOLDER = Path(__file__).parent / "_static" / "screenshots"
LENET_JAX = (sys.executable, "-m", "lenet_jax")
TRAIN = "lenet-jax train model.hidden_units=100 optimizer.learning_rate=0.05 schedule=cosine hydra.run.dir=outputs/run"
SWEEP = (
    "lenet-jax train -m model=mnist_cnn data.train_size=1000 trainer.max_epochs=8 'seed=range(3)' "
    "optimizer.learning_rate=0.02,0.05,0.1,0.2 trainer.batch_size=25,50 hydra.sweep.dir=outputs/sweep"
)
WIDTH = 1280  # pixels of a page
SIZE = (112, 32)  # columns and lines of the terminal
LIMIT = 200_000  # bytes of a picture
TERMINAL = """<!doctype html><meta charset="utf-8"><style>
body { margin: 0; padding: 14px; background: #fff; width: fit-content; }
p { font: 15px sans-serif; margin: 4px 2px 6px; color: #444; }
pre { font: 15px/1.3 "DejaVu Sans Mono", monospace; margin: 0 0 12px; padding: 12px 14px; border-radius: 8px;
  background: #16181b; color: #e4e4e4; width: SIZEch; } code { font: inherit; }
</style>"""


def main() -> int:
    """Make all pictures; return the exit code."""
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    missing = [name for name, found in (("chromium", chromium), ("tmux", shutil.which("tmux"))) if found is None]
    if chromium is None or missing:
        print(f"screenshots: install what is missing: {', '.join(missing)}.", file=sys.stderr)
        return 2
    FOLDER.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        take = partial(photograph, chromium, folder)
        screens = run_in_terminal(folder)
        take(terminal_page(screens), "terminal.png", width=1100)
        call = partial(subprocess.run, cwd=folder, check=True, stdout=subprocess.DEVNULL)
        call([*LENET_JAX, "report", "outputs/run"])
        take(page_of(folder / "outputs/run"), "run.png", height=1490)
        call([*LENET_JAX, *shlex.split(SWEEP)[1:]])
        take(page_of(folder / "outputs/sweep"), "sweep.png", height=1425)
    return 0


def run_in_terminal(folder: Path) -> dict[str, str]:
    """Train a run in a terminal; return what it shows then, with its colours, while it runs and at its end."""
    with terminal(folder) as tmux:
        tmux("send-keys", TRAIN, "Enter")
        running = wait_for(tmux, r"epoch +9 .*\n.*left")
        finished = wait_for(tmux, r"run directory +\S+\n")
    return {"While it trains": running, "At its end": finished}


@contextmanager
def terminal(folder: Path) -> Iterator[partial[str]]:
    """Open a terminal with a shell that knows `lenet-jax`; yield the function that commands it."""
    profile = folder / "profile"
    profile.write_text(f"PS1='$ '\nlenet-jax() {{ {shlex.join(LENET_JAX)} \"$@\"; }}\nclear\n")
    tmux = partial(_tmux, folder / "tmux")
    tmux("new-session", "-d", "-x", str(SIZE[0]), "-y", str(SIZE[1]), "-c", str(folder), f"bash --rcfile {profile}")
    try:
        wait_for(tmux, r"^\$", seconds=20)
        yield tmux
    finally:
        tmux("kill-server")


def _tmux(socket: Path, *arguments: str) -> str:
    command = ["tmux", "-f", "/dev/null", "-S", str(socket), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def wait_for(tmux: partial[str], pattern: str, seconds: float = 600) -> str:
    """Return what the terminal shows, with its colours, once its text has a pattern."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        screen = tmux("capture-pane", "-p", "-e")
        if re.search(pattern, Text.from_ansi(screen).plain):
            return screen.rstrip()
        time.sleep(0.1)
    raise TimeoutError(f"screenshots: the terminal never showed {pattern!r}; it shows:\n{screen}")


def terminal_page(screens: dict[str, str]) -> str:
    """Return screens of a terminal as a page."""
    parts = [TERMINAL.replace("SIZE", str(SIZE[0]))]
    for title, screen in screens.items():
        console = Console(record=True, width=SIZE[0], file=io.StringIO())
        console.print(Text.from_ansi(screen), soft_wrap=True)
        code = console.export_html(theme=MONOKAI, code_format="{code}", inline_styles=True)
        parts.append(f"<p>{title}</p><pre>{code}</pre>")
    return "".join(parts)


def page_of(directory: Path) -> str:
    """Return the page of a run or a sweep, without the names of this machine and its kernel."""
    page = (directory / "index.html").read_text()
    page = page.replace(platform.platform(), platform.system())
    return re.sub(rf"<td>{re.escape(platform.node())}(?=[,<])", "<td>host", page)


def photograph(
    chromium: str, folder: Path, page: str, name: str, *, width: int = WIDTH, height: int | None = None
) -> None:
    """Take a picture of the upper part of a page, or of all of it, in as many colours as its size allows."""
    source, target = folder / "page.html", folder / name
    source.write_text(page)
    command = [chromium, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
    command += ["--blink-settings=preferredColorScheme=1", f"--user-data-dir={folder / 'chromium'}"]
    command += [f"--window-size={width},{height or 2000}", f"--screenshot={target}", source.as_uri()]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    image = Image.open(target).convert("RGB")
    if height is None:
        image = image.crop((0, 0, width, _end_of(image)))
    for colours in (256, 128, 64, 32):
        image.quantize(colours).save(FOLDER / name, optimize=True)
        if (FOLDER / name).stat().st_size < LIMIT:
            break
    print(f"{FOLDER / name}: {image.width} x {image.height}, {(FOLDER / name).stat().st_size:,} bytes")


def _end_of(image: Image.Image) -> int:
    """Return the height of what is not white."""
    box = image.convert("L").point(lambda value: 255 - value).getbbox()
    return box[3] + 10 if box else image.height


if __name__ == "__main__":
    sys.exit(main())
