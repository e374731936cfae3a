"""What is in the environment stays there: only listed variables are recorded."""

import pytest

from lenet_jax.cli import main
from tests.linear import put_in_place_of_lenet

TOKEN = "x7Jq9Zk2-sentinel-4vTb"
NAMES = (
    *("GITHUB_TOKEN", "AWS_SECRET_ACCESS_KEY", "HF_TOKEN", "WANDB_API_KEY", "DATABASE_URL", "MY_PASSWORD"),
    *("HYDRA_SECRET", "LENET_JAX_SECRET", "JAX_SECRET", "XLA_SECRET", "OMP_SECRET", "SLURM_JOB_COMMENT", "HOSTALIASES"),
)  # fmt: skip
TINY = ["data.train_size=100", "trainer.max_epochs=1"]


@pytest.mark.usefixtures("in_an_empty_folder")
def test_no_file_has_what_only_the_environment_has(tmp_path, monkeypatch):
    put_in_place_of_lenet(monkeypatch)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in NAMES:
        monkeypatch.setenv(name, TOKEN)
    assert main(["train", *TINY, "hydra.run.dir=run"]) == 0
    assert main(["train", "-m", *TINY, "seed=0,1", "hydra.sweep.dir=sweep"]) == 0
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {"run.json", "sweep.json", "hydra.yaml", "train.log", "index.html"} <= {path.name for path in files}
    assert [path for path in files if TOKEN.encode() in path.read_bytes()] == []
