import os
import subprocess
import sys

import pytest


@pytest.fixture
def refused(monkeypatch, tmp_path):
    """A function that runs a command that must be refused by one line, and returns the line."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments, **variables):
        found = subprocess.run(
            [sys.executable, "-m", "lenet_jax", *arguments],
            **{"capture_output": True, "text": True, "check": False, "env": {**os.environ, **variables}},
        )
        assert (found.returncode, found.stdout) == (2, "")
        assert list(tmp_path.iterdir()) == []
        return found.stderr

    return run


COMMANDS = {
    "train": ["train", "trainer.max_epochs=1", "hydra.run.dir=run"],
    "sweep": ["train", "-m", "trainer.max_epochs=1", "hydra.sweep.dir=sweep", "seed=0,1"],
    "summary": ["summary"],
    "versions": ["--version", "--verbose"],
}


@pytest.mark.parametrize(("command", "platform"), [("train", "cuda"), ("versions", "cuda"), ("summary", "nope")])
def test_a_platform_that_is_not_there_is_named_with_its_remedy(command, platform, refused):
    assert refused(*COMMANDS[command], JAX_PLATFORMS=platform) == (
        f"lenet-jax: `JAX_PLATFORMS` must name a platform that JAX finds on this machine; got {platform!r}; unset it, "
        "set JAX_PLATFORMS=cpu, or install JAX for that platform.\n"
    )


@pytest.mark.parametrize(
    ("command", "variable", "value"),
    [
        ("train", "JAX_NUM_CPU_DEVICES", "abc"),
        ("sweep", "JAX_ENABLE_X64", "maybe"),
        ("summary", "JAX_DEFAULT_PRNG_IMPL", "dice"),
        ("versions", "JAX_NUMPY_DTYPE_PROMOTION", "none"),
    ],
)
def test_a_variable_that_jax_cannot_read_is_named(command, variable, value, refused):
    assert refused(*COMMANDS[command], **{variable: value}) == (
        f"lenet-jax: `{variable}` must have a value that JAX takes; got {value!r}; correct or unset it.\n"
    )


@pytest.mark.parametrize("command", ["train", "sweep"])
def test_programs_are_compiled(command, refused):
    assert refused(*COMMANDS[command], JAX_DISABLE_JIT="1").startswith(
        "lenet-jax: `JAX_DISABLE_JIT` must not be set for a run, whose programs are compiled before it starts; unset it"
    )


def test_a_cpu_has_a_device(refused):
    assert refused(*COMMANDS["train"], JAX_NUM_CPU_DEVICES="0") == (
        "lenet-jax: `JAX_NUM_CPU_DEVICES` must be an integer, 1 or above; got '0'; unset it for one device a core.\n"
    )


@pytest.mark.parametrize(
    ("command", "flags", "problem"),
    [
        ("train", "--unknown", "Unknown flag in XLA_FLAGS: --unknown"),
        (
            "sweep",
            "--xla_cpu_multi_thread_eigen=abc",
            "Couldn't interpret value abc for flag xla_cpu_multi_thread_eige",
        ),
        ("versions", "nowhere.txt", 'Could not open file "nowhere.txt'),
    ],
)
def test_flags_that_xla_would_end_the_process_for_are_refused(command, flags, problem, refused):
    message = refused(*COMMANDS[command], XLA_FLAGS=flags)
    assert message.startswith(f"lenet-jax: `XLA_FLAGS` must be flags that XLA knows, or a file of them; {problem}")
    assert message.count("\n") == 1
