"""Scripts for shells, containers and clusters: linters know them, and the batch script resumes what it has begun."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

RECIPES = ROOT / "docs" / "recipes"
SCRIPTS = [ROOT / ".ci" / "run", ROOT / ".ci" / "smoke", ROOT / ".ci" / "matrix", *RECIPES.glob("*.s*")]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def program(name):
    found = shutil.which(name, path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    return found or pytest.skip(f"needs {name}")


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_shells_read_every_script(script):
    subprocess.run(["bash", "-n", str(script)], check=True)
    subprocess.run([program("shellcheck"), "--severity=warning", str(script)], check=True)


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_workflows_follow_their_schema(workflow):
    check = [program("check-jsonschema"), "--builtin-schema", "vendor.github-workflows", str(workflow)]
    subprocess.run(check, check=True, capture_output=True)


def test_the_image_is_built_in_two_stages_and_runs_without_being_root():
    parser = pytest.importorskip("dockerfile_parse")
    with (RECIPES / "Dockerfile").open("rb") as file:
        lines = parser.DockerfileParser(fileobj=file).structure
    steps = [(line["instruction"], line["value"]) for line in lines if line["instruction"] != "COMMENT"]
    known = {"FROM", "RUN", "WORKDIR", "COPY", "ARG", "ENV", "USER", "ENTRYPOINT", "CMD"}
    assert {instruction for instruction, _ in steps} <= known
    assert [value for instruction, value in steps if instruction == "FROM"] == [
        "python:3.12-slim AS build",
        "python:3.12-slim",
    ]
    assert [value for instruction, value in steps if instruction == "USER"] == ["1000:1000"]
    assert ("ENTRYPOINT", '["lenet-jax"]') in steps


@pytest.mark.parametrize(("code", "requeued"), [(0, False), (1, False), (75, True)])
def test_the_batch_script_trains_then_resumes_and_asks_for_another_turn_if_it_can_be_resumed(code, requeued, tmp_path):
    for name, lines in {
        "srun": 'exec "$@"',
        "scontrol": 'echo "$@" >> requeued',
        "lenet-jax": f'echo "$@" >> called; mkdir -p outputs/slurm/7; touch outputs/slurm/7/run.json; exit {code}',
    }.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{lines}\n")
        (tmp_path / name).chmod(0o755)
    environment = {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}", "SLURM_JOB_ID": "7"}
    for _ in range(2):
        command = ["bash", str(RECIPES / "train.sbatch"), "seed=3"]
        assert subprocess.run(command, cwd=tmp_path, env=environment).returncode == code
    expected = ["train hydra.run.dir=outputs/slurm/7 seed=3", "resume outputs/slurm/7"]
    assert (tmp_path / "called").read_text().splitlines() == expected
    assert (tmp_path / "requeued").exists() == requeued
