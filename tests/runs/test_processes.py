"""How the processes of a run find each other, and what is refused."""

import pytest

from lenet_jax.cli import main
from lenet_jax.cli.options import DISTRIBUTED, distributed_option, parse
from lenet_jax.config import DistributedConfig
from lenet_jax.errors import InputError
from lenet_jax.runs.processes import _with_environment, agreed, check_same, fetch, is_writer

ADDRESS = "host:1234"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"coordinator": "host"}, r"coordinator. must be HOST:PORT, with a port of 1 to 65535; got 'host'\."),
        ({"coordinator": "host:0"}, r"coordinator. must be HOST:PORT"),
        ({"coordinator": ADDRESS, "num_processes": 2}, r"process_id. must be given with distributed\.coordinator"),
        ({"coordinator": ADDRESS, "process_id": 0}, r"num_processes. must be given with distributed\.coordinator"),
        ({"process_id": 1}, r"process_id. must come with distributed\.coordinator=HOST:PORT; got none\."),
        ({"coordinator": ADDRESS, "num_processes": 2, "process_id": 2}, r"process_id. must be 0 to .*, 2 - 1; got 2\."),
    ],
)
def test_options_that_do_not_belong_together_are_refused(options, message):
    with pytest.raises(InputError, match=rf"^`distributed\.{message}"):
        DistributedConfig(**options).check()


def test_open_mpi_tells_what_the_options_do_not(monkeypatch):
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "8")
    monkeypatch.setenv("OMPI_COMM_WORLD_RANK", "3")
    assert _with_environment(DistributedConfig(detect=True, coordinator=ADDRESS)) == (ADDRESS, 8, 3)
    assert _with_environment(DistributedConfig(detect=True, num_processes=4, process_id=0)) == (None, 4, 0)
    given = DistributedConfig(coordinator=ADDRESS, num_processes=2, process_id=1)
    assert _with_environment(given) == (ADDRESS, 2, 1)


def test_resume_takes_the_same_options():
    words = ["--distributed.coordinator=h:1", "--distributed.num_processes", "2", "--distributed.process_id=0"]
    options = parse("resume", words, values=DISTRIBUTED)
    assert distributed_option(options) == DistributedConfig(coordinator="h:1", num_processes=2, process_id=0)
    assert distributed_option(parse("resume", ["--distributed=auto"], values=DISTRIBUTED)).detect
    with pytest.raises(InputError, match=r"resume: `--distributed` must be none or auto; got 'slurm'\."):
        distributed_option(parse("resume", ["--distributed=slurm"], values=DISTRIBUTED))


def test_a_sweep_has_one_process(capsys, in_an_empty_folder):
    arguments = ["train", "-m", "seed=0,1", "distributed=auto"]
    assert main(arguments) == 2
    assert "`distributed` must be none for a sweep" in capsys.readouterr().err


def test_a_single_process_agrees_with_itself():
    interrupted = lambda: True  # noqa: E731
    assert agreed(interrupted) is interrupted
    check_same("a checkpoint", 3)
    assert is_writer()
    assert fetch({"x": 1}) == {"x": 1}
