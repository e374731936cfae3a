import json
import subprocess
import sys

import pytest

from tests.conftest import ROOT
from tests.data import fuzz, hostile


def run(*arguments):
    done = subprocess.run(
        [sys.executable, "-m", *map(str, arguments)], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_each_bad_file_is_refused_in_one_line_at_once_with_little_memory_and_nothing_is_executed(tmp_path):
    report = run("tests.data.hostile", tmp_path)
    assert len({outcome["name"] for outcome in report["outcomes"]}) == len(report["outcomes"]) > 40
    for outcome in report["outcomes"]:
        kind = "warned" if outcome["name"].startswith("cache: ") else "InputError"
        assert outcome["kind"] == kind, outcome
        assert outcome["expected"] in outcome["message"], outcome
        assert len(outcome["message"].splitlines()) == 1, outcome
        assert len(outcome["message"]) < 2 * len(outcome["path"]) + 300, outcome
        assert outcome["path"] in outcome["message"], outcome
        assert outcome["seconds"] < 2, outcome
        assert "MemoryError" not in outcome["message"], outcome
    assert not report["executed"]
    assert report["more_bytes"] < hostile.MOST_BYTES


def test_thirty_malicious_pickles_would_be_executed_elsewhere(tmp_path):
    executed = run("tests.data.malicious_pickles", tmp_path)
    assert all(executed.values()), executed
    assert len(executed) >= 30


@pytest.mark.slow
def test_random_damage_gives_the_right_arrays_or_one_clear_error(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # for the file that breaks it
    for name, subject in fuzz.make_subjects(tmp_path).items():
        happened = fuzz.fuzz(subject, 2_000, seed=1)
        assert happened["refused"] + happened["decoded again"] > 0, name
