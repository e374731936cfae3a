"""Training killed and resumed: every byte of what it leaves is that of a run left alone, but for the times in it.

python -m tests.faults.training COUNT [FIRST]: kills COUNT runs, each at an instant of its own, and resumes them.
"""

import json
import random
import sys
import tempfile
from pathlib import Path

from tests.faults.zygote import Ended, Zygote

TINY = ["data.train_size=200", "trainer.max_epochs=30", "optimizer=momentum"]
GRID = ["-m", "optimizer.learning_rate=0.02,0.1", "seed=0,1"]
WAYS = {
    "run": [],
    "one device": [],
    "lanes": GRID,
    "devices": [*GRID, "sweep.strategy=devices"],
    "vmap": [*GRID, "sweep.strategy=vmap"],
    "basic": [*GRID, "hydra/launcher=basic"],
    "streamed": ["data=synthetic", "data.stream=true", "data.image_size=14", "data.channels=1"],
}


def command(way: str, name: str) -> list[str]:
    key = "hydra.sweep.dir" if "-m" in WAYS[way] else "hydra.run.dir"
    return ["train", *WAYS[way], *TINY, f"{key}={name}"]


def without_times(result: dict[str, object]) -> dict[str, object]:
    """Return what is the same each time of a `result.json`."""
    times = ("seconds", "compile_seconds", "images_per_second", "metrics_sha256", "sha256")
    return {key: result[key] for key in result if key not in times}


def remains(directory: Path) -> dict[str, object]:
    """Return what a run or a sweep has left, without times and what tells one run from another."""
    found: dict[str, object] = {}
    for path in sorted(directory.rglob("*")):
        name = str(path.relative_to(directory))
        match path.name:
            case "metrics.jsonl":
                lines = [json.loads(line) for line in path.read_text().splitlines()]
                found[name] = [{key: line[key] for key in line if key != "seconds"} for line in lines]
            case "result.json":
                found[name] = without_times(json.loads(path.read_text()))
            case "best.safetensors" | "summary.json" | "summary.csv":
                found[name] = path.read_bytes()
            case _ if path.parent.name == "checkpoints":
                raise AssertionError(f"{path} is left over")
    return found


def environment(way: str) -> dict[str, str]:
    return {"JAX_NUM_CPU_DEVICES": "1"} if way == "one device" else {}


def reference(zygote: Zygote, way: str, folder: Path) -> tuple[dict[str, object], float]:
    """Run once without interruption; what it leaves, and how long it takes with compiled programs at hand."""
    for name in ("first", "whole"):
        (folder / f"{name}-{way}").mkdir()
        ended = zygote.run(command(way, "r"), folder / f"{name}-{way}")
        assert ended.code == 0, ended.output
    return remains(folder / f"whole-{way}" / "r"), ended.seconds


def resume(zygote: Zygote, way: str, folder: Path, *, kill_after: float | None = None) -> Ended:
    """Resume what is in a folder, or start if nothing is."""
    begun = any((folder / "r" / name).exists() for name in ("run.json", "sweep.json"))
    return zygote.run(["resume", "r"] if begun else command(way, "r"), folder, kill_after=kill_after)


def kill_and_resume(zygote: Zygote, way: str, folder: Path, whole: tuple[dict[str, object], float], number: int) -> str:
    """Kill a run at an instant that depends on the number, resume it, and compare; return how far it had come."""
    expected, seconds = whole
    folder.mkdir()
    killed = zygote.run(command(way, "r"), folder, kill_after=random.Random(number).uniform(0, 1.05 * seconds))
    steps = len(list(folder.rglob("metrics.jsonl"))), len(list(folder.rglob("state.safetensors")))
    ended = resume(zygote, way, folder)
    assert ended.code == 0, ended.output
    assert remains(folder / "r") == expected, (way, number)
    return "done before" if killed.code == 0 else f"{steps[0]} logs, {steps[1]} checkpoints"


def main(arguments: list[str]) -> int:
    count, first = int(arguments[0]), int(arguments[1]) if len(arguments) > 1 else 0
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        caches = {way: Zygote(XDG_CACHE_HOME=str(base / f"cache-{way}"), **environment(way)) for way in WAYS}
        wholes = {way: reference(zygote, way, base) for way, zygote in caches.items()}
        for number in range(first, first + count):
            way = list(WAYS)[number % len(WAYS)]
            came = kill_and_resume(caches[way], way, base / str(number), wholes[way], number)
            print(f"{number}: {way}: {came}; resumed, equal", flush=True)
        for zygote in caches.values():
            zygote.__exit__()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
