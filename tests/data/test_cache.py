import os
from pathlib import Path

import numpy as np
import pytest

from lenet_jax.data import cache
from lenet_jax.data.cache import cache_directory, digest_files, load_or_decode


class Source:
    """Arrays to decode, and how often that was done."""

    def __init__(self) -> None:
        self.arrays = {"images": np.arange(12, dtype=np.uint8).reshape(3, 4), "labels": np.array([1, 0, 2])}
        self.decoded = 0

    def __call__(self) -> dict[str, np.ndarray]:
        self.decoded += 1
        return self.arrays

    def is_loaded(self, key: str = "key") -> bool:
        """Load, check the content, and return whether nothing had to be decoded for it."""
        before, arrays = self.decoded, load_or_decode(key, self)
        assert arrays.keys() == self.arrays.keys()
        for name, array in self.arrays.items():
            np.testing.assert_array_equal(arrays[name], array, strict=True)
        return self.decoded == before


@pytest.fixture
def source():
    """A source that is in the cache under "key"."""
    source = Source()
    assert not source.is_loaded()
    return source


def objects():
    return sorted((cache_directory() / "objects").iterdir())


def entry():
    return cache_directory() / "entries" / "key.json"


def test_the_second_load_decodes_nothing(source):
    assert source.is_loaded()


def test_another_key_is_decoded_for_itself(source):
    assert not source.is_loaded("another key")
    assert source.is_loaded("another key")


def test_equal_content_is_stored_once(source):
    source.is_loaded("another key")
    assert len(objects()) == 2


def test_the_cache_is_where_xdg_says(tmp_path, monkeypatch):
    assert cache_directory() == Path(os.environ["XDG_CACHE_HOME"]) / "lenet_jax" / "datasets"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_directory() == tmp_path / ".cache" / "lenet_jax" / "datasets"


def test_a_flipped_byte_is_noticed_and_healed(source):
    content = bytearray(objects()[0].read_bytes())
    content[-1] ^= 1
    objects()[0].write_bytes(content)
    with pytest.warns(UserWarning, match="damaged") as warned:
        assert not source.is_loaded()
    assert [str(w.message) for w in warned] == [
        f"the cached data {objects()[0].name} in {cache_directory()} are damaged; decoding again"
    ]
    assert source.is_loaded()


@pytest.mark.parametrize("content", [b"", b'{"images": "01', b"\xff", b"[]", b'{"images": 5}'])
def test_an_entry_that_is_not_whole_is_decoded_again(source, content):
    entry().write_bytes(content)
    with pytest.warns(UserWarning, match=r"the cached data key\.json in .* are damaged; decoding again"):
        assert not source.is_loaded()
    assert source.is_loaded()


def test_arrays_without_any_content_are_stored(source):
    source.arrays = {"images": np.zeros((0, 4), np.uint8), "labels": np.zeros(0, np.int64)}
    assert not source.is_loaded("empty")
    assert source.is_loaded("empty")


def test_a_missing_object_is_decoded_again(source):
    objects()[0].unlink()
    assert not source.is_loaded()
    assert source.is_loaded()


def test_a_cache_that_cannot_be_written_costs_a_warning_only(monkeypatch):
    def fail(path, content):
        raise OSError("the disk is full")

    monkeypatch.setattr(cache, "write_atomically", fail)
    with pytest.warns(UserWarning, match="not cached") as warned:
        assert not Source().is_loaded()
    assert [str(w.message) for w in warned] == [
        f"the decoded data were not cached in {cache_directory()}: the disk is full"
    ]


def test_the_entry_is_written_last_and_nothing_else_is_left(monkeypatch):
    written, write = [], cache.write_atomically

    def note(path, content):
        written.append(path)
        write(path, content)

    monkeypatch.setattr(cache, "write_atomically", note)
    Source().is_loaded()
    assert written[-1] == entry()
    assert sorted(written[:-1]) == objects()
    assert {path for path in cache_directory().rglob("*") if path.is_file()} == set(written)


def test_the_digest_of_files_is_of_their_names_and_content(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_bytes(b"1")
    two.write_bytes(b"2")
    digest = digest_files([one, two], "text")
    assert digest_files([two, one], "text") == digest
    assert digest_files([one, two], "te", "xt") != digest
    assert digest_files([one], "text") != digest
    two.write_bytes(b"3")
    assert digest_files([one, two], "text") != digest
    two.write_bytes(b"2")
    assert digest_files([one, two.rename(tmp_path / "three")], "text") != digest
