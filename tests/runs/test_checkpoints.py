"""Nothing but what was written is ever read from a checkpoint."""

import errno
import os
import random
import shutil
import stat
from pathlib import Path

import numpy as np
import pytest

from lenet_jax.errors import InputError
from lenet_jax.runs.checkpoints import MANIFEST, STATE, newest_first, read_checkpoint, save_checkpoint
from lenet_jax.storage import remove_partial

MAX_BYTES = 1 << 20


def tensors(seed, size=8):
    rng = np.random.default_rng(seed)
    return {
        "params/kernel": rng.random((size, 8), np.float32),
        "iteration": np.int32(seed),
        "key": np.uint32([1, seed]),
    }


def save(folder, iteration, **options):
    save_checkpoint(folder, iteration, tensors(iteration, **options), {"seconds": 1.5, "run": "a"})
    return folder / f"{iteration:010d}"


def same(one, other):
    return one.keys() == other.keys() and all(
        one[name].dtype == other[name].dtype and np.array_equal(one[name], other[name]) for name in one
    )


def test_what_is_read_is_what_was_written(tmp_path):
    checkpoint = read_checkpoint(save(tmp_path / "checkpoints", 160), MAX_BYTES)
    assert (checkpoint.iteration, checkpoint.metadata) == (160, {"seconds": 1.5, "run": "a"})
    assert same(checkpoint.tensors, tensors(160))
    assert checkpoint.tensors["iteration"].shape == ()


def test_two_are_kept(tmp_path):
    for iteration in (80, 160, 240, 1000):
        save(tmp_path, iteration)
    assert [path.name for path in newest_first(tmp_path)] == ["0000001000", "0000000240"]
    assert len(list(tmp_path.iterdir())) == 2


def test_they_are_kept_and_removed_where_folders_cannot_be_renamed(tmp_path, monkeypatch):
    def fail(self, target):
        raise OSError(errno.EXDEV, "another device")

    monkeypatch.setattr(Path, "rename", fail)
    for iteration in (80, 160, 240):
        assert same(read_checkpoint(save(tmp_path, iteration), MAX_BYTES).tensors, tensors(iteration))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0000000160", "0000000240"]


def test_one_of_the_same_iteration_is_replaced(tmp_path):
    path = save(tmp_path, 80)
    (path / STATE).write_bytes(b"damaged")
    assert same(read_checkpoint(save(tmp_path, 80), MAX_BYTES).tensors, tensors(80))


def test_an_older_one_stays_if_the_newer_is_not_read_back_whole(tmp_path, monkeypatch):
    save(tmp_path, 80)
    save(tmp_path, 160)
    fsync = os.fsync

    def lose(descriptor):  # a disk that says it has written
        fsync(descriptor)
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.ftruncate(descriptor, 300)

    monkeypatch.setattr(os, "fsync", lose)
    with pytest.raises(InputError, match=r"manifest\.json: must be JSON"):
        save(tmp_path, 240)
    assert [path.name for path in newest_first(tmp_path)] == ["0000000240", "0000000160", "0000000080"]


def flips(path, numbers):
    """Flip each of the given bits of a file in turn."""
    content = path.read_bytes()
    with path.open("r+b", buffering=0) as file:
        for number in numbers:
            place, bit = divmod(number, 8)
            os.pwrite(file.fileno(), bytes([content[place] ^ 1 << bit]), place)
            yield number
            os.pwrite(file.fileno(), content[place : place + 1], place)


def check_flips(path, expected, numbers):
    """Each flip is found, or changes nothing that is read; return how many are found."""
    found, metadata = 0, read_checkpoint(path.parent, MAX_BYTES).metadata
    for number in flips(path, numbers):
        try:
            checkpoint = read_checkpoint(path.parent, MAX_BYTES)
        except InputError:
            found += 1
        else:
            assert checkpoint.metadata == metadata, number
            assert same(checkpoint.tensors, expected), number
    return found


@pytest.mark.parametrize("name", [STATE, MANIFEST])
def test_every_bit_of_a_checkpoint_of_8_kib_is_flipped(name, tmp_path):
    path = save(tmp_path, 3, size=240)
    sizes = {each.name: each.stat().st_size for each in path.iterdir()}
    assert 8192 <= sum(sizes.values()) < 8500
    found = check_flips(path / name, tensors(3, size=240), range(8 * sizes[name]))
    assert found >= (8 * sizes[name] if name == STATE else 0.8 * 8 * sizes[name])  # the rest is space between words


@pytest.mark.slow
def test_10_000_bits_of_one_of_the_size_of_lenet_are_flipped(tmp_path):
    path = save(tmp_path, 3, size=2 * 431_080 // 8)
    numbers = random.Random(0).sample(range(8 * (path / STATE).stat().st_size), 10_000)
    rest = tensors(3, size=2 * 431_080 // 8)
    max_bytes, found = 1 << 23, 0
    for _ in flips(path / STATE, numbers):
        with pytest.raises(InputError, match="must have SHA-256"):
            read_checkpoint(path, max_bytes)
        found += 1
    assert found == 10_000
    assert same(read_checkpoint(path, max_bytes).tensors, rest)


@pytest.mark.parametrize("name", [STATE, MANIFEST])
def test_a_file_cut_short_at_any_length_is_found(name, tmp_path):
    path = save(tmp_path, 3, size=240)
    whole = (path / name).read_bytes()
    ends_a_line = name == MANIFEST  # its last byte
    for length in reversed(range(len(whole) - ends_a_line)):
        os.truncate(path / name, length)
        with pytest.raises(InputError, match=f"^{path / name}: "):
            read_checkpoint(path, MAX_BYTES)
    (path / name).write_bytes(whole)
    assert same(read_checkpoint(path, MAX_BYTES).tensors, tensors(3, size=240))


@pytest.mark.parametrize("name", [STATE, MANIFEST])
@pytest.mark.parametrize("damage", ["missing", "folder", "empty", "longer", "of another iteration"])
def test_a_file_that_is_not_the_one_written_is_named(name, damage, tmp_path):
    other, path = save(tmp_path, 2), save(tmp_path, 3)
    content = (path / name).read_bytes()
    (path / name).unlink()
    match damage:
        case "folder":
            (path / name).mkdir()
        case "empty":
            (path / name).write_bytes(b"")
        case "longer":
            (path / name).write_bytes(content + b"x")
        case "of another iteration":
            shutil.copy(other / name, path / name)
    with pytest.raises(InputError, match=f"^{path / name}: "):
        read_checkpoint(path, MAX_BYTES)


def test_a_file_that_is_larger_than_it_can_be_is_not_read(tmp_path, monkeypatch):
    path = save(tmp_path, 3)
    os.truncate(path / STATE, 1 << 40)  # a terabyte that takes no space
    with pytest.raises(InputError, match=r"must have at most \d+ bytes; got 1099511627776"):
        read_checkpoint(path, MAX_BYTES)


def test_what_a_killed_process_left_is_no_checkpoint_and_is_removed(tmp_path):
    save(tmp_path, 3)
    shutil.copytree(tmp_path / "0000000003", tmp_path / ".0000000004.tmp")
    shutil.copytree(tmp_path / "0000000003", tmp_path / ".0000000002.old.tmp")
    assert [path.name for path in newest_first(tmp_path)] == ["0000000003"]
    remove_partial(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["0000000003"]


def test_a_folder_that_is_not_there_has_none(tmp_path):
    assert newest_first(tmp_path / "checkpoints") == []
