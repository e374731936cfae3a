"""Wheel and sdist: what they hold, that they have the same bytes whoever builds them, that they work alone."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from datetime import date
from pathlib import Path

import jax
import numpy
import pytest
import yaml

from tests.conftest import ROOT

SMOKE = ROOT / ".ci" / "smoke"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


@pytest.fixture(scope="module")
def backend(tmp_path_factory):
    """A folder with hatchling, which builds both."""
    folder = tmp_path_factory.mktemp("hatchling")
    run([sys.executable, "-m", "pip", "install", "--quiet", "--target", str(folder), "hatchling"], ROOT)
    return folder


def run(command, folder, **environment):
    return subprocess.run(
        command, cwd=folder, check=True, capture_output=True, text=True, env={**os.environ, **environment}
    ).stdout


def build(kind, backend, source, target, **environment):
    """Build a wheel or an sdist of a folder, and return its file."""
    code = f"from hatchling.build import build_{kind}; import sys; print(build_{kind}(sys.argv[1]))"
    environment = {"PYTHONPATH": str(backend), "SOURCE_DATE_EPOCH": "1700000000", **environment}
    return target / run([sys.executable, "-c", code, str(target)], source, **environment).splitlines()[-1]


def unpack(sdist, target):
    with tarfile.open(sdist) as archive:
        archive.extractall(target, filter="data")
    return target / sdist.name.removesuffix(".tar.gz")


def clone(target):
    run(["git", "clone", "--quiet", str(ROOT), str(target)], ROOT)
    return target


@pytest.mark.slow
def test_an_sdist_is_complete_and_its_wheel_has_what_the_package_needs(backend, tmp_path):
    sdist = build("sdist", backend, clone(tmp_path / "clone"), tmp_path)
    source = unpack(sdist, tmp_path / "source")
    files = {path.relative_to(source).as_posix() for path in source.rglob("*") if path.is_file()}
    tracked = run(["git", "ls-files", "lenet_jax", "hydra_plugins", "conf", "tests", "docs", "*.md"], ROOT).split()
    assert files >= {name for name in tracked if not name.startswith((".", "experiments/"))}
    assert files >= {"LICENSE", "requirements.lock", "CITATION.cff", "PKG-INFO", "lenet_jax/revision.json"}

    wheel = build("wheel", backend, source, tmp_path, CXX="no-such-compiler")
    names = set(zipfile.ZipFile(wheel).namelist())
    modules = {name for name in tracked if name.startswith(("lenet_jax/", "hydra_plugins/"))}
    conf = {f"lenet_jax/{name}" for name in tracked if name.startswith("conf/")}
    assert names >= modules | conf
    assert {"lenet_jax/py.typed", "lenet_jax/__init__.pyi", "lenet_jax/ops/cpu/native/kernels.cc"} <= modules
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == {"lenet_jax", "hydra_plugins"}
    assert not [name for name in names if "__pycache__" in name]


@pytest.mark.slow
def test_two_builds_have_the_same_bytes(backend, tmp_path):
    """Without the native library, whose compilation takes minutes: the next test has it."""
    digests = []
    for number, name in enumerate(("a", "a longer name/b")):
        source, target = clone(tmp_path / name), tmp_path / str(number)
        target.mkdir()
        os.utime(source / "README.md", (number, number))
        sdist = build("sdist", backend, source, target)
        unpacked = unpack(sdist, target / "source")
        digests.append([digest(sdist)])
        contents = []
        for folder in (source, unpacked):
            wheel = build("wheel", backend, folder, target, CXX="no-such-compiler")
            digests[-1].append(digest(wheel))
            contents.append(sorted(zipfile.ZipFile(wheel).namelist()))
        assert contents[0] == contents[1]  # in another order: a clone makes revision.json, an sdist has it
    assert digests[0] == digests[1]


@pytest.mark.slow
def test_the_native_library_has_the_same_bytes_wherever_it_is_compiled(tmp_path):
    shutil.which("g++") or pytest.skip("needs g++")
    digests = []
    for name in ("a", "a longer name/b"):
        folder = tmp_path / name
        shutil.copytree(ROOT / "lenet_jax/ops/cpu/native", folder, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
        run([sys.executable, str(folder / "build.py")], tmp_path)
        library = folder / "kernels.so"
        assert str(tmp_path).encode() not in library.read_bytes()
        digests.append(digest(library))
    assert digests[0] == digests[1]


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.slow
def test_a_wheel_works_in_a_bare_environment_outside_the_clone(backend, tmp_path):
    wheel = build("wheel", backend, clone(tmp_path / "clone"), tmp_path, CXX="no-such-compiler")
    environment = tmp_path / "environment"
    run([sys.executable, "-m", "venv", str(environment)], tmp_path)
    constraint = {"PIP_CONSTRAINT": str(ROOT / "requirements.lock")}
    run([str(environment / "bin" / "pip"), "install", "--quiet", str(wheel)], tmp_path, **constraint)
    pyright = shutil.which("pyright", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    printed = run(["bash", str(SMOKE), str(environment)], tmp_path, PYRIGHT=pyright or "")
    assert printed.splitlines()[-1] == "smoke: passed"


def test_the_citation_has_the_version_of_the_package_and_a_date():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == PROJECT["version"]
    assert isinstance(citation["date-released"], date)


def test_the_bill_of_materials_has_each_package_once_with_its_version():
    bill = json.loads(run([sys.executable, str(ROOT / ".ci" / "sbom.py")], ROOT))
    names = [each["purl"].rpartition("@")[0] for each in bill["components"]]
    assert names == sorted(set(names))
    versions = {each["name"]: each["version"] for each in bill["components"]}
    assert (versions["jax"], versions["numpy"]) == (jax.__version__, numpy.__version__)


def test_the_matrix_has_the_pythons_that_the_package_claims():
    claimed = [text.rsplit(" ", 1)[1] for text in PROJECT["classifiers"] if re.search(r"Python :: 3\.\d", text)]
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())
    assert workflow["jobs"]["matrix"]["strategy"]["matrix"]["python"] == claimed
    assert f"versions=({' '.join(claimed)})" in (ROOT / ".ci" / "matrix").read_text()


def test_every_extra_that_a_text_names_exists():
    texts = "\n".join(path.read_text() for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
    named = re.findall(r"pip\s+install (?:-e )?'(?:\.|lenet-jax)\[([\w,]+)\]'", texts)
    assert {name for group in named for name in group.split(",")} <= set(PROJECT["optional-dependencies"])
