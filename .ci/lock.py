"""Write requirements.lock: every version that .ci/run uses, on each supported Python found.

    python .ci/lock.py python3.11 python3.13

Versions that differ between the interpreters get a marker; the first one also gets the extra `peers`.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def freeze(python: str, extras: str) -> tuple[str, dict[str, str]]:
    """Install the project in a new environment and return the Python version and package -> version."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([python, "-m", "venv", folder], check=True)
        inside = f"{folder}/bin/python"
        if "peers" in extras:  # first, so that a wheel on this machine is taken before the index is asked
            subprocess.run([inside, "-m", "pip", "install", "--quiet", "torch==2.13.0"], check=True)
        subprocess.run([inside, "-m", "pip", "install", "--quiet", f"{ROOT}[{extras}]"], check=True)
        frozen = subprocess.check_output([inside, "-m", "pip", "freeze", "--exclude", "lenet-jax"], text=True)
        version = subprocess.check_output(
            [inside, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"], text=True
        )
    pins = {}
    for line in frozen.splitlines():
        name, separator, pinned = line.partition("==")
        pins[name if separator else line.partition(" @ ")[0]] = pinned.partition("+")[0] if separator else "2.13.0"
    return version.strip(), pins


def main(pythons: list[str]) -> None:
    """Merge the frozen versions of all interpreters into one file."""
    frozen = dict(freeze(python, "dev,peers" if number == 0 else "dev") for number, python in enumerate(pythons))
    oldest = next(iter(frozen))
    lines = ["# Written by .ci/lock.py: the versions that .ci/run uses.", f"# Pythons: {', '.join(frozen)}"]
    for name in sorted({name for pins in frozen.values() for name in pins}, key=str.lower):
        versions = {python: pins[name] for python, pins in frozen.items() if name in pins}
        if len(versions) == len(frozen) and len(set(versions.values())) == 1:
            lines.append(f"{name}=={versions[oldest]}")
            continue
        for python, version in versions.items():
            operator = "==" if python == oldest else "!="
            lines.append(f'{name}=={version} ; python_version {operator} "{oldest}"')
    (ROOT / "requirements.lock").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
