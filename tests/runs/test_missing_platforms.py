import subprocess
import sys

import pytest


@pytest.mark.parametrize("platform", ["cuda", "nope"])
def test_a_platform_that_is_not_there_is_named_with_its_remedy(platform, monkeypatch, tmp_path):
    monkeypatch.setenv("JAX_PLATFORMS", platform)
    monkeypatch.chdir(tmp_path)
    found = subprocess.run(
        [sys.executable, "-m", "lenet_jax", "train", "trainer.max_epochs=1", "hydra.run.dir=run"],
        **{"capture_output": True, "text": True, "check": False},
    )
    assert found.returncode == 2
    assert found.stderr == (
        f"lenet-jax: `JAX_PLATFORMS` must name a platform that JAX finds on this machine; got {platform!r}; unset it, "
        "set JAX_PLATFORMS=cpu, or install JAX for that platform.\n"
    )
    assert not (tmp_path / "run").exists()
