"""The index of a folder of runs and sweeps, from their JSON files alone."""

import http.client
import http.server
import re
import signal
import socket
import threading

import pytest

from lenet_jax.cli import main
from lenet_jax.report.html import to_page
from lenet_jax.report.run_index import find_all, index_document
from lenet_jax.report.serve import make_server
from lenet_jax.storage import dump_with_digest, locked, to_json
from tests.report.chromium import needs_chromium, show

RUN = {
    "started": "2026-01-02T03:04:05+00:00",
    "config": {"model": {"_target_": "lenet_jax.models.lenet.lenet"}},
    "data": {"name": "mnist_5k"},
}
RESULT = {
    "monitor": "accuracy", "mode": "max", "validation_accuracy": 0.8, "test_accuracy": 0.9, "test_examples": 100,
    "stopped_by": "patience", "epochs": 3, "iterations": 9,
}  # fmt: skip


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(dump_with_digest(content))


def write_run(folder, result=None, **changed):
    write(folder / "run.json", RUN | changed)
    if result is not None:
        write(folder / "result.json", RESULT | result)


def write_sweep(folder, states):
    sweep = {"started": "2026-02-01T00:00:00+00:00", "base": RUN["config"], "data": [{"name": "mnist"}]}
    write(folder / "sweep.json", sweep)
    measures = {
        "validation_accuracy": {"n": 2, "mean": 0.7, "sd": 0.1, "interval": [0.1, 0.9]},
        "test_accuracy": {"n": 2, "mean": 0.75, "sd": 0.1, "interval": [0.2, 0.95]},
    }
    other = {"jobs": [3], "measures": {}}
    summary = {
        "jobs": [{"number": n, "state": state} for n, state in enumerate(states)],
        "groups": [other, {"jobs": [0, 1], "measures": measures}],
        "best_groups": [{"metric": "accuracy", "mode": "max", "jobs": [0, 1], "best_job": 1}],
    }
    (folder / "summary.json").write_text(to_json(summary))
    write_run(folder / "0", {})


def found(folder):
    return {each.path: each for each in find_all(folder)}


def test_a_run_is_finished_running_or_stopped(tmp_path):
    write_run(tmp_path / "a" / "finished", {})
    write_run(tmp_path / "stopped")
    write_run(tmp_path / "running")
    with locked(tmp_path / "running", "run"):
        each = found(tmp_path)
    assert {path: row.state for path, row in each.items()} == {
        "a/finished": "finished: patience, 3 epochs",
        "stopped": "stopped",
        "running": "running",
    }
    row = each["a/finished"]
    assert (row.model, row.data, row.started) == ("lenet", "mnist_5k", RUN["started"])
    assert row.results == ("80.00%", "90.00%", "82.56% to 94.48%")  # Wilson's, as in the page of a run
    assert each["running"].results == ("", "", "")


def test_a_sweep_has_the_means_of_its_best_configuration_and_hides_its_jobs(tmp_path):
    write_sweep(tmp_path / "sweep", ["done", "done", "failed"])
    write_sweep(tmp_path / "open", ["done", "pending"])
    (each, unfinished) = (found(tmp_path)[name] for name in ("sweep", "open"))
    assert len(found(tmp_path)) == 2
    assert each.state == "finished: 3 jobs, 2 done, 1 failed"
    assert unfinished.state == "stopped: 2 jobs, 1 done, 1 pending"
    assert each.results == ("70.00%", "75.00%", "20.00% to 95.00%, mean of 2")


def test_another_metric_is_named_and_has_no_interval(tmp_path):
    write_run(tmp_path / "a", {"monitor": "error", "mode": "min", "validation_error": 0.12345678, "test_error": None})
    assert found(tmp_path)["a"].results == ("0.1235 (error)", "", "")


def test_what_is_damaged_or_of_another_form_is_a_row_that_says_so(tmp_path):
    write_run(tmp_path / "damaged", {})
    (tmp_path / "damaged" / "result.json").write_text('{"sha256": "0"}')
    write(tmp_path / "other" / "run.json", {"config": []})
    write(tmp_path / ".hidden" / "run.json", RUN)
    (tmp_path / "link").symlink_to(tmp_path / "other", target_is_directory=True)
    assert {path: row.state for path, row in found(tmp_path).items()} == {"damaged": "damaged", "other": "unknown"}


def test_the_newest_comes_first_and_links_lead_to_pages_or_folders(tmp_path):
    write_run(tmp_path / "old <b>", {})
    write_run(tmp_path / "new", {}, started="2026-03-01T00:00:00+00:00")
    (tmp_path / "new" / "index.html").touch()
    page = to_page(index_document(tmp_path))
    assert page.index('href="new/index.html"') < page.index('href="old%20%3Cb%3E/"')
    assert "2 (2 finished)" in page
    assert "old &lt;b&gt;" in page


def test_the_command_writes_the_index_again_but_no_other_page(tmp_path, capsys):
    write_run(tmp_path / "a", {})
    for _ in range(2):
        assert main(["report", str(tmp_path), "--index"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"report: {tmp_path / 'index.html'}"
    (tmp_path / "index.html").write_text("<p>my own page")
    assert main(["report", str(tmp_path), "--index"]) == 2
    assert "move" in capsys.readouterr().err
    assert (tmp_path / "index.html").read_text() == "<p>my own page"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["a", "--index"], "not one of them"),
        (["missing", "--index"], "must be a folder"),
        ([".", "--index", "--image=3"], "`--image` is for the directory of a run or a sweep"),
        ([".", "--serve", "--port=x"], "`--port` must be a number from 0"),
        ([".", "--index", "--port=1"], "add --serve"),
        (["a", "--port=1"], "add --serve"),
    ],
)
def test_other_options_are_refused(tmp_path, options, message, capsys):
    write_run(tmp_path / "a", {})
    assert main(["report", str(tmp_path / options[0]), *options[1:]]) == 2
    assert message in capsys.readouterr().err


@pytest.fixture
def served(tmp_path):
    """Return a function that asks a server of a folder for a path."""
    folder = tmp_path / "served"
    write_run(folder / "a", {})
    (folder / "a" / "note.txt").write_text("noted")
    (tmp_path / "secret").write_text("secret")
    (folder / "leads_out").symlink_to(tmp_path / "secret")
    server = make_server(folder, 0)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}).start()

    def ask(path, method="GET", host=None):
        connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=30)
        connection.request(method, path, headers={"Host": host or f"localhost:{server.server_port}"})
        answer = connection.getresponse()
        content = answer.read().decode()
        connection.close()
        return answer.status, content, answer

    ask.folder = folder
    yield ask
    server.shutdown()
    server.server_close()


def test_the_server_makes_the_index_anew_and_writes_nothing(served):
    assert 'href="a/"' in served("/")[1]
    write_run(served.folder / "b", {})
    status, content, answer = served("/")
    assert (status, 'href="b/"' in content) == (200, True)
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    assert served("/a/note.txt")[:2] == (200, "noted")
    assert not (served.folder / "index.html").exists()


def test_the_server_shows_nothing_outside_and_answers_no_other_site(served):
    assert served("/leads_out")[0] == 404
    assert served("/../secret")[0] == 404
    assert served("/%2e%2e/secret")[0] == 404
    assert served("/", host="attacker.example")[0] == 403
    assert served("/a/note.txt", method="PUT")[0] == 501
    assert served("/a/note.txt", method="DELETE")[0] == 501


def test_a_taken_port_is_one_line(tmp_path, capsys):
    write_run(tmp_path / "a", {})
    with make_server(tmp_path, 0) as server:
        assert main(["report", str(tmp_path), "--serve", f"--port={server.server_port}"]) == 2
    assert "use another, as --port=0" in capsys.readouterr().err


def test_ctrl_c_ends_the_server_without_a_traceback(tmp_path, capsys, monkeypatch):
    write_run(tmp_path / "a", {})
    loop = http.server.ThreadingHTTPServer
    monkeypatch.setattr(loop, "service_actions", lambda _: signal.raise_signal(signal.SIGINT))  # from within its loop
    assert main(["report", str(tmp_path), "--serve", "--port=0"]) == 0
    shown = capsys.readouterr()
    assert shown.err == ""
    port = int(re.fullmatch(r"report: http://127\.0\.0\.1:(\d+)/ until Ctrl-C\n\n", shown.out)[1])
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=5)


def test_a_name_in_a_listing_is_text(served):
    (served.folder / "a" / "<script>alert(1)").write_text("")
    assert "<script>" not in served("/a/")[1]
    assert "&lt;script&gt;" in served("/a/")[1]


@needs_chromium
@pytest.mark.parametrize("width", [400, 1280])
def test_the_index_fits_on_a_narrow_and_on_a_wide_screen(tmp_path, width):
    for number in range(3):
        write_run(tmp_path / "an_experiment" / f"2026-11-29T20-06-0{number}-0e5c85cae37f9ad6", {})
    ask = "[...document.querySelectorAll('.scroll')].map(each => each.scrollWidth - each.clientWidth)"
    shown = show(to_page(index_document(tmp_path)), tmp_path, width=width, ask=ask)
    assert shown.scroll_width <= shown.width
    assert shown.console == []
    if width == 400:
        assert max(shown.answer) <= 0  # names and values below each other
