"""The records of experiments/ are made again by one command, which may be stopped at any time."""

import json

import pytest

from experiments import index, reproduce


@pytest.fixture
def root(tmp_path, monkeypatch):
    (tmp_path / "toy").mkdir()
    (tmp_path / "toy" / "claims.toml").write_text(
        '[[runs]]\nrecord = "records/seed-{seed}"\nseeds = 2\noptions = ["experiment=toy"]\nreport = ["--image=4"]\n'
        '[[claim]]\nwhat = "error"\nkey = "test_accuracy"\nas = "error percent"\nunit = "%"\n'
    )
    for page in (tmp_path / "toy" / "README.md", tmp_path / "README.md"):
        page.write_text(f"{index.BEGIN}\n{index.END}\n")
    monkeypatch.setattr(index, "ROOT", tmp_path)
    return tmp_path


class _Command:
    """Stands for lenet-jax: writes what a run leaves, and dies at the named calls."""

    def __init__(self):
        self.calls, self.dies_at = [], set()

    def __call__(self, command, *arguments):
        self.calls.append((command, *arguments))
        directory = reproduce.Path(arguments[-1].partition("=")[2] if command == "train" else arguments[0])
        if command == "report":
            (directory / "figures").mkdir(exist_ok=True)
            return
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "run.json").write_text("{}")
        if len(self.calls) in self.dies_at:
            raise KeyboardInterrupt
        (directory / "metrics.jsonl").write_text("")
        (directory / "result.json").write_text(json.dumps({"test_accuracy": 0.75}))


def test_a_stopped_command_goes_on_and_replaces_the_records_at_the_end(root, tmp_path, monkeypatch):
    command = _Command()
    command.dies_at = {3}
    monkeypatch.setattr(reproduce, "_lenet_jax", command)
    runs = tmp_path / "runs"
    with pytest.raises(KeyboardInterrupt):
        reproduce.main(["toy", f"--output={runs}"])
    assert not (root / "toy" / "records").exists()
    reproduce.main(["toy", f"--output={runs}"])
    first, second = (f"{runs}/toy/records/seed-{seed}" for seed in (0, 1))
    assert command.calls == [
        ("train", "experiment=toy", "seed=0", f"hydra.run.dir={first}"),
        ("report", first, "--image=4"),
        ("train", "experiment=toy", "seed=1", f"hydra.run.dir={second}"),
        ("report", first, "--image=4"),
        ("resume", second),
    ]
    records = root / "toy" / "records"
    assert sorted(path.name for path in (records / "seed-0").iterdir()) == ["figures", *sorted(reproduce.FILES)]
    assert sorted(path.name for path in (records / "seed-1").iterdir()) == sorted(reproduce.FILES)
    assert "25.00 ± 0.00 % (25.00 to 25.00, 2 seeds)" in (root / "toy" / "README.md").read_text()


def test_every_record_is_of_a_listed_run_and_every_listed_run_has_its_record():
    listed = {run.record for run in reproduce.recorded_runs(reproduce.known_experiments())}
    kept = {path.parent.relative_to(index.ROOT) for path in index.ROOT.glob("*/*/*/result.json")}
    assert listed == kept


def test_an_unknown_experiment_is_refused(capsys):
    with pytest.raises(SystemExit, match="2"):
        reproduce.main(["theano"])
    assert "unknown experiment theano; there are architectures, csu_scg," in capsys.readouterr().err
