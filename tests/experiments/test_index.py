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


@pytest.mark.parametrize(
    ("weights", "key", "measured"),
    [
        ({}, "best_test_accuracy", "90.00 %"),  # older records are of their best weights, and of no others
        ({}, "last_test_accuracy", "no record yet"),
        ({"weights": "last"}, "last_test_accuracy", "90.00 %"),
        ({"weights": "last"}, "best_test_accuracy", "95.00 %"),
        ({"weights": "both"}, "best_test_accuracy", "90.00 %"),
        ({"weights": "both"}, "last_test_accuracy", "85.00 %"),
    ],
)
def test_a_claim_names_the_weights_that_it_is_of(tmp_path, weights, key, measured):
    folder = tmp_path / "records" / "seed-0"
    folder.mkdir(parents=True)
    (tmp_path / "claims.toml").write_text(f'[[claim]]\nwhat = "it"\nkey = "{key}"\nas = "percent"\nunit = "%"\n')
    beside = {"last": {"best_test_accuracy": 0.95}, "both": {"last_test_accuracy": 0.85}}
    result = {"test_accuracy": 0.9, **beside.get(weights.get("weights"), {})}
    (folder / "result.json").write_text(json.dumps(result))
    (folder / "run.json").write_text(json.dumps({"config": {"trainer": weights}}))
    assert [claim.measured for claim in index.read_claims(tmp_path)] == [measured]


def test_a_claim_may_be_of_the_last_evaluation(tmp_path):
    for seed, lines in enumerate(
        ([{"schema": 1}, {"epoch": 1, "loss": 3}, {"epoch": 2, "loss": 1}], [{"epoch": 9, "loss": 2}])
    ):
        folder = tmp_path / "records" / f"seed-{seed}"
        folder.mkdir(parents=True)
        (folder / "result.json").write_text("{}")
        (folder / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)))
    (tmp_path / "claims.toml").write_text(
        '[[claim]]\nwhat = "it"\nkey = "loss"\nepoch = "last"\nas = "number"\nunit = ""\n'
    )
    assert [claim.measured for claim in index.read_claims(tmp_path)] == ["1.50 ± 0.71  (1.00 to 2.00, 2 seeds)"]


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
