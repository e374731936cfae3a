import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from lenet_jax.runs.signals import SIGNALS, postponed_signals, signals_interrupt


@pytest.mark.parametrize("number", SIGNALS)
def test_the_first_signal_is_noted_and_the_second_interrupts(number):
    before = signal.getsignal(number)
    with postponed_signals() as asked:
        assert not asked()
        os.kill(os.getpid(), number)
        assert asked()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)
    assert signal.getsignal(number) == before


def test_a_signal_that_somebody_else_handles_stays_theirs():
    come = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: come.append(number))
    try:
        with postponed_signals() as asked:
            os.kill(os.getpid(), signal.SIGTERM)
            assert not asked()
    finally:
        signal.signal(signal.SIGTERM, before)
    assert come == [signal.SIGTERM]


def test_in_another_thread_nothing_happens():
    before, found = signal.getsignal(signal.SIGTERM), []

    def work():
        with postponed_signals() as asked:
            found.append((asked(), signal.getsignal(signal.SIGTERM)))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [(False, before)]


@pytest.mark.parametrize("number", SIGNALS)
def test_every_signal_interrupts_as_control_c_does(number, capfd):
    with signals_interrupt(), pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), number)
    assert "lenet-jax: interrupted; stopping after the current device program" in capfd.readouterr().err


def test_a_second_signal_ends_a_process_that_waits_for_something_else_than_python():
    program = """
import ctypes, os, sys
from lenet_jax.runs.signals import postponed_signals, signals_interrupt
with signals_interrupt(), postponed_signals():
    print("ready", flush=True)
    ctypes.PyDLL(None)  # what follows holds no lock, and no handler of Python runs while it lasts
    while ctypes.CDLL(None).poll(None, 0, 60_000): pass
"""
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "ready\n"
    begin = time.monotonic()
    for _ in range(2):
        time.sleep(0.2)
        process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 75
    assert time.monotonic() - begin < 5
    assert "interrupted again; what was saved stays" in errors


WRITES = """
import sys
from lenet_jax.runs.signals import outlive_readers, outlive_terminal
outlive_terminal()
{also}
for _ in range(3):
    print("x" * 100_000, flush=True)
print("the end", file=sys.stderr)
"""


@pytest.mark.parametrize(("also", "code"), [("outlive_readers()", 0), ("", 1)], ids=["of a run", "of an answer"])
def test_what_prints_goes_on_without_a_reader_if_it_is_a_run(also, code):
    reader, writer = os.pipe()
    os.close(reader)
    program = [sys.executable, "-c", WRITES.format(also=also)]
    done = subprocess.run(program, stdout=writer, stderr=subprocess.PIPE, text=True)
    os.close(writer)
    assert done.returncode == code
    assert ("the end" in done.stderr) == (code == 0)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
@pytest.mark.parametrize(("also", "code"), [("outlive_readers()", 0), ("", 1)], ids=["of a run", "of an answer"])
def test_what_prints_goes_on_when_the_disk_of_its_output_is_full_if_it_is_a_run(also, code):
    with Path("/dev/full").open("w") as full:
        program = [sys.executable, "-c", WRITES.format(also=also)]
        done = subprocess.run(program, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode in ((0,) if code == 0 else (1, 120))
    assert ("the end" in done.stderr) == (code == 0)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_log_on_a_full_disk_is_no_traceback():
    program = """
import logging
from lenet_jax.runs.signals import outlive_terminal
outlive_terminal()
logging.basicConfig(filename="/dev/full")
logging.warning("a line")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_what_an_encoding_lacks_is_spelled():
    program = "from lenet_jax.runs.signals import outlive_terminal; outlive_terminal(); print('1 ± 2 … é')"
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "1 +/- 2 ... \\xe9\n"


def test_no_file_gets_the_number_of_a_stream_that_is_closed_from_the_start(tmp_path):
    program = f"""
import os, sys
from lenet_jax.runs.signals import outlive_terminal
outlive_terminal()
descriptor = os.open({str(tmp_path / "file")!r}, os.O_WRONLY | os.O_CREAT)
print("a message"); print("a message", file=sys.stderr); os.write(2, b"a message")
sys.exit(descriptor <= 2)
"""
    command = f"{sys.executable} - >&- 2>&-"
    assert subprocess.run(command, shell=True, input=program, text=True, env=os.environ).returncode == 0
    assert (tmp_path / "file").read_bytes() == b""
