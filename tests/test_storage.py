"""Files are written whole or not at all, and only what was written is read back."""

import errno
import json
import os
import stat
import threading
import time
from pathlib import Path

import pytest

from lenet_jax import storage
from lenet_jax.errors import InputError
from lenet_jax.storage import (
    dump_with_digest,
    load_verified,
    locked,
    own_folder,
    read_file,
    remove_partial,
    write_atomically,
)


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


# ---- JSON with its digest -------------------------------------------------------------------------------------------


def test_content_is_read_as_it_was_written_and_numbers_that_are_not_finite_are_null(tmp_path):
    file = dump_with_digest({"a": [1, 2.5], "b": {"c": float("nan")}})
    assert load_verified(tmp_path, file) == {"a": [1, 2.5], "b": {"c": None}}
    content = json.loads(file)
    assert (*content, content["schema"]) == ("schema", "a", "b", "sha256", 1)


def test_content_without_a_digest_is_taken_as_it_is(tmp_path):
    assert load_verified(tmp_path, b'{"schema": 1, "a": 2}') == {"a": 2}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda file: file.replace(b"2.5", b"2.6"), "is damaged, or was changed; its content must have SHA-256"),
        (lambda file: file[:-10], "must be JSON as lenet-jax writes it"),
        (lambda file: b"[" * 10_000, "must be JSON as lenet-jax writes it"),
        (
            lambda file: b'{"a":' + b"[" * 200 + b"]" * 200 + b"}",
            "must be JSON as lenet-jax writes it; nested more than 100 levels deep",
        ),
        (lambda file: b"[1]", "must be an object of schema 1; if it is whole, use the version of lenet-jax that wrote"),
        (lambda file: file.replace(b'"schema": 1', b'"schema": 2'), "must be an object of schema 1"),
    ],
)
def test_content_that_is_not_what_was_written_is_refused(change, message, tmp_path):
    with pytest.raises(InputError, match=f"^{tmp_path}: {message}"):
        load_verified(tmp_path, change(dump_with_digest({"a": 2.5})))


# ---- folders --------------------------------------------------------------------------------------------------------


def test_a_file_above_the_limit_or_none_at_all_is_not_read(tmp_path):
    (tmp_path / "file").write_bytes(bytes(11))
    assert read_file(tmp_path / "file", 11) == bytes(11)
    for path, message in (
        (tmp_path / "file", "must have at most 10 bytes; got 11"),
        (tmp_path, "must be a file; it is something else"),
        (tmp_path / "none", "must be a file; it is missing"),
    ):
        with pytest.raises(InputError, match=message):
            read_file(path, 10)


def test_only_temporary_names_are_removed(tmp_path):
    for name in (".a.1234.tmp", "b.tmp", ".c", "d"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / ".e.tmp").mkdir()
    (tmp_path / ".e.tmp" / "f").write_bytes(b"")
    remove_partial(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".c", "b.tmp", "d"]


def test_a_folder_is_locked_for_as_long_as_the_block_lasts(tmp_path):
    with locked(tmp_path / "run", "run"), pytest.raises(InputError, match="in use by another process"):  # noqa: SIM117
        with locked(tmp_path / "run", "run"):
            pass
    with locked(tmp_path / "run", "run"):
        pass


def test_several_may_share_a_folder_from_which_others_are_kept(tmp_path):
    with locked(tmp_path, "sweep", shared=True), locked(tmp_path, "sweep", shared=True):  # noqa: SIM117
        with pytest.raises(InputError, match="in use by another process, which works on this sweep"):
            with locked(tmp_path, "sweep"):
                pass
    with locked(tmp_path, "sweep"), pytest.raises(InputError, match="in use by another process"):  # noqa: SIM117
        with locked(tmp_path, "sweep", shared=True):
            pass


def test_a_lock_can_be_waited_for(tmp_path, caplog):
    freed = threading.Event()

    def hold():
        with locked(tmp_path, "run"):
            held.set()
            time.sleep(0.2)
            freed.set()

    held, holder = threading.Event(), threading.Thread(target=hold)
    holder.start()
    held.wait()
    with locked(tmp_path, "run", wait=True):
        assert freed.is_set()
    holder.join()
    assert caplog.messages == [f"{tmp_path}: waits until another process, which works on this run, exits"]


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_costs_one_warning(number, tmp_path, monkeypatch, caplog):
    def fail(descriptor, operation):
        raise OSError(number, "no locks")

    monkeypatch.setattr("fcntl.flock", fail)
    for name in ("a", "b"):
        with locked(tmp_path / name, "run"):
            assert list((tmp_path / name).iterdir()) == []
    message = f"{tmp_path}: its file system has no locks; let only one process at a time work on what is in it"
    assert caplog.messages == [message]


@pytest.mark.parametrize("number", [errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS, errno.EBADF])
def test_a_file_system_that_cannot_flush_folders_costs_one_warning(number, tmp_path, monkeypatch, caplog):
    flush = os.fsync

    def fail(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(number, "no")
        flush(descriptor)

    storage._warn_of_no_folder_sync.cache_clear()
    monkeypatch.setattr(os, "fsync", fail)
    for name in ("a", "b"):
        write_atomically(tmp_path / name, name.encode())
        assert (tmp_path / name).read_bytes() == name.encode()
    assert caplog.messages == [
        "the file system cannot flush folders: a power failure, not a killed process, may undo the last write"
    ]


def test_a_disk_error_of_a_folder_is_no_such_file_system(tmp_path, monkeypatch):
    def fail(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EIO, "no")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="no"):
        write_atomically(tmp_path / "a", b"")


def test_where_files_cannot_be_renamed_they_are_overwritten(tmp_path, monkeypatch, caplog):
    def fail(self, target):
        raise OSError(errno.EXDEV, "another device")

    monkeypatch.setattr(Path, "replace", fail)
    for content in (b"first, and longer", b"second"):
        write_atomically(tmp_path / "a", content)
        assert (tmp_path / "a").read_bytes() == content
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert caplog.messages == [
        f"{tmp_path}: its file system cannot replace files at once; a killed process may leave a damaged one"
    ]


def test_a_folder_that_cannot_be_renamed_is_moved_with_its_last_file_last(tmp_path, monkeypatch):
    old, new, written = tmp_path / "old", tmp_path / "new", []
    old.mkdir()
    for name in ("manifest", "a", "z"):
        (old / name).write_text(name)
    write = storage.write_file

    def fail(self, target):
        raise OSError(errno.EXDEV, "another device")

    def spy(path, content):
        written.append(path.name)
        write(path, content)

    monkeypatch.setattr(Path, "rename", fail)
    monkeypatch.setattr(storage, "write_file", spy)
    storage.rename_folder(old, new, "manifest")
    assert written == ["a", "z", "manifest"]
    assert {path.name: path.read_text() for path in new.iterdir()} == {name: name for name in written}
    assert not old.exists()
