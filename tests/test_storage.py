import os

import pytest

from lenet_jax.storage import write_atomically


def test_a_file_is_written_with_its_folder(tmp_path):
    write_atomically(tmp_path / "new" / "file", b"content")
    assert (tmp_path / "new" / "file").read_bytes() == b"content"


def test_a_file_is_replaced_as_a_whole(tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.write_bytes(b"old, and longer")
    seen = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: seen.append((path.read_bytes(), os.fstat(descriptor).st_size)))
    write_atomically(path, b"new")
    assert seen == [(b"old, and longer", 3)]  # flushed whole while the old content still stands
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [OSError("the disk is full"), KeyboardInterrupt()])
def test_a_failed_write_changes_nothing(tmp_path, monkeypatch, error):
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def fail(descriptor):
        raise error

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(type(error)):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(NotADirectoryError):
        write_atomically(tmp_path / "file" / "below" / "file", b"content")
