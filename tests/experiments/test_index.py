"""The tables of published against measured figures."""

import json

import pytest

from experiments import index


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "toy"
    (folder / "records").mkdir(parents=True)
    (folder / "claims.toml").write_text(
        """
        [[claim]]
        what = "test error"
        key = "test_accuracy"
        as = "error percent"
        unit = "%"
        published = 1.5
        goal = { kind = "within two standard deviations" }

        [[claim]]
        what = "time"
        key = "seconds"
        as = "minutes"
        unit = "min"
        published = 30
        goal = { kind = "each at most", value = 2.5 }

        [[claim]]
        what = "not run yet"
        records = "other/*"
        key = "test_accuracy"
        as = "percent"
        unit = "%"
        goal = { kind = "at least", value = 99 }
        """
    )
    for seed, (accuracy, seconds) in enumerate([(0.98, 60), (0.99, 180)]):
        (folder / "records" / f"seed-{seed}").mkdir()
        (folder / "records" / f"seed-{seed}" / "result.json").write_text(
            json.dumps({"test_accuracy": accuracy, "seconds": seconds})
        )
    for page in (folder / "README.md", tmp_path / "README.md"):
        page.write_text(f"before\n{index.BEGIN}\nold\n{index.END}\nafter\n")
    return tmp_path


def test_means_spreads_and_goals_by_hand(root):
    error, time, missing = index.read_claims(root / "toy")
    assert error == (
        "test error",
        "1.50 %",
        "1.50 ± 0.71 % (1.00 to 2.00, 2 seeds)",
        "published within two standard deviations",
        True,
    )
    assert time == ("time", "30.00 min", "2.00 ± 1.41 min (1.00 to 3.00, 2 seeds)", "each at most 2.50 min", False)
    assert missing == ("not run yet", "", "no record yet", "at least 99.00 %", None)


def test_pages_keep_their_text_around_the_table(root):
    pages = index.pages(root)
    assert set(pages) == {root / "README.md", root / "toy" / "README.md"}
    for text in pages.values():
        assert text.startswith("before\n")
        assert text.endswith("after\n")
        assert "old" not in text
    assert "[toy](toy/README.md)" in pages[root / "README.md"]
    assert "**missed**" in pages[root / "toy" / "README.md"]


def test_a_page_without_markers_is_refused(root):
    (root / "README.md").write_text("no table")
    with pytest.raises(ValueError, match="the page must have the lines"):
        index.pages(root)


def test_the_pages_are_those_of_the_records():
    outdated = [path.name for path, text in index.pages().items() if path.read_text() != text]
    assert outdated == [], "run python -m experiments.index"
