"""The index of a folder of runs and sweeps, as a page or in a browser on this machine."""

from pathlib import Path

from lenet_jax.cli.options import Options
from lenet_jax.errors import InputError

_PORT = "8000"


def index(folder: Path, options: Options) -> int:
    """Write the index of a folder, or serve it and the folder until it is interrupted; return the exit code.

    Args:
        folder: of runs and sweeps.
        options: --index or --serve, with --port=N.
    """
    from lenet_jax.report.html import GENERATOR
    from lenet_jax.report.run_index import index_document
    from lenet_jax.storage import read_file

    for name in options.values.keys() - {"--port"}:
        raise InputError(f"report: `{name}` is for the directory of a run or a sweep; leave it out for an index.")
    document = index_document(folder)
    if "--serve" in options.switches:
        return _serve(folder, options.values.get("--port", _PORT))
    if "--port" in options.values:
        raise InputError("report: `--port` is where the index is served; add --serve.")
    path = folder / "index.html"
    if path.exists() and GENERATOR.encode() not in read_file(path, 1 << 28)[:1000]:
        raise InputError(f"report: `DIR` must have no page of another kind, which would be lost; move {path} away.")

    from lenet_jax.report.formats import write_document

    print(f"report: {write_document(document, folder)}")
    return 0


def _serve(folder: Path, text: str) -> int:
    from lenet_jax.report.serve import LOOPBACK, make_server

    if not (text.isdecimal() and int(text) < 1 << 16):
        raise InputError(f"report: `--port` must be a number from 0, for any that is free, to 65535; got {text!r}.")
    try:
        server = make_server(folder, int(text))
    except OSError as error:
        raise InputError(
            f"report: `--port` must be free; {text} is not ({error.strerror}); use another, as --port=0."
        ) from error
    with server:
        print(f"report: http://{LOOPBACK}:{server.server_port}/ until Ctrl-C", flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print()
    return 0
