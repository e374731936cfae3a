"""Tasks that an engine has taken."""

import signal

import pytest

from lenet_jax.engines import End, Running


class Gone(Exception):
    pass


class Promised:
    """A future that ends when the test says so."""

    def __init__(self, value=None, error=None):
        self.is_done, self.is_cancelled, self.value, self.error = False, False, value, error

    def done(self):
        return self.is_done

    def result(self):
        if self.error is not None:
            raise self.error
        return self.value

    def cancel(self):
        self.is_cancelled = True


class Promising:
    """An engine of two processes, whose futures are given."""

    num_workers, lost = 2, (Gone,)

    def __init__(self, futures):
        self.futures = futures

    def start(self, function, tasks):
        self.handler = signal.getsignal(signal.SIGINT)
        return [self.futures[task] for task in tasks]

    def close(self):
        pass


@pytest.fixture
def futures():
    return {"a": Promised(1), "b": Promised(error=Gone("killed")), "c": Promised(error=ValueError("wrong"))}


def test_each_task_ends_once_with_its_value_or_what_was_raised(futures):
    running = Running(Promising(futures), print)
    running.start(["a", "b", "c"])
    assert running.ended() == []
    futures["b"].is_done = futures["c"].is_done = True
    assert running.ended() == [
        End("b", error=futures["b"].error, lost=True),
        End("c", error=futures["c"].error),
    ]
    assert running.ended() == []
    futures["a"].is_done = True
    assert running.ended() == [End("a", value=1)]
    assert len(running) == 0


def test_an_engine_takes_no_more_tasks_than_it_has_processes(futures):
    engine = Promising(futures)
    running = Running(engine, print)
    assert running.room == 2
    running.start(["a"])
    assert running.room == 1
    running.start(["b", "c"])
    assert running.room == 0
    engine.num_workers = None
    assert running.room is None


def test_only_the_named_tasks_are_taken_back(futures):
    running = Running(Promising(futures), print)
    running.start(["a", "b"])
    running.cancel(["b"])
    assert (futures["a"].is_cancelled, futures["b"].is_cancelled) == (False, True)


def test_processes_are_started_where_ctrl_c_does_not_reach_them(futures):
    engine, before = Promising(futures), signal.getsignal(signal.SIGINT)
    Running(engine, print).start(["a"])
    assert engine.handler is signal.SIG_IGN
    assert signal.getsignal(signal.SIGINT) is before
