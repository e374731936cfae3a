import os
import stat

import pytest

from lenet_jax.storage import own_folder, write_atomically


def test_a_file_is_written_with_its_folder(tmp_path):
    write_atomically(tmp_path / "new" / "file", b"content")
    assert (tmp_path / "new" / "file").read_bytes() == b"content"


def test_a_file_is_replaced_as_a_whole(tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.write_bytes(b"old, and longer")
    seen = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: seen.append((path.read_bytes(), os.fstat(descriptor).st_size)))
    write_atomically(path, b"new")
    assert seen[0] == (b"old, and longer", 3)  # flushed whole while the old content still stands
    assert [content for content, _ in seen[1:]] == [b"new"]  # and its new name afterwards
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


def test_a_folder_is_made_for_this_user_alone(tmp_path):
    before = os.umask(0)
    try:
        assert own_folder(tmp_path / "a" / "b")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a" / "b").stat().st_mode) == 0o700
    assert own_folder(tmp_path / "a" / "b")


@pytest.mark.parametrize("mode", [0o770, 0o702, 0o777, 0o1777, 0o722])
def test_a_folder_that_others_can_write_to_is_not_ones_own(mode, tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a").chmod(mode)
    assert not own_folder(tmp_path / "a")


def test_a_link_and_the_folder_of_another_user_are_not_ones_own(tmp_path, monkeypatch):
    (tmp_path / "a").mkdir()
    (tmp_path / "link").symlink_to("a")
    assert not own_folder(tmp_path / "link")
    assert own_folder(tmp_path / "a")
    user = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: user + 1)
    assert not own_folder(tmp_path / "a")
