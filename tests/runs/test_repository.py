"""A repository is read without running what its settings name, and its patch applies again."""

import os
import subprocess
import sys
import time

import pytest

from lenet_jax.runs import repository
from lenet_jax.runs.repository import MAX_PATCH_BYTES, find_root, open_repository
from tests.runs.projects import commit, git, write


def patch_of(folder, files=()):
    return open_repository(folder).uncommitted([folder / file for file in files])


def applied(folder, content, target):
    """Return a clean checkout of a repository with a patch applied to it."""
    git(folder, "clone", "-q", str(folder), str(target))
    subprocess.run(["git", "-C", str(target), "apply", "-"], input=content, check=True)
    return target


def test_the_root_is_the_nearest_folder_with_a_repository(tmp_path):
    write(tmp_path, {"a/b/c.py": ""})
    git(tmp_path / "a", "init", "-q")
    assert find_root(tmp_path / "a" / "b") == find_root(tmp_path / "a") == tmp_path / "a"
    assert find_root(tmp_path) is None


def test_a_clean_project_has_a_revision_and_an_empty_patch(tmp_path):
    write(tmp_path, {"a.py": "a = 1\n"})
    commit(tmp_path)
    write(tmp_path, {"outputs/notes.txt": "untracked, and no module\n"})
    assert open_repository(tmp_path).revision() == git(tmp_path, "rev-parse", "HEAD").decode().strip()
    assert (patch_of(tmp_path).content, patch_of(tmp_path).is_dirty) == (b"", False)


def test_a_file_that_was_only_touched_is_not_changed_and_the_index_is_left_as_it_is(tmp_path):
    write(tmp_path, {"a.py": "a = 1\n"})
    commit(tmp_path)
    os.utime(tmp_path / "a.py", (1, 1))
    index = (tmp_path / ".git" / "index").read_bytes()
    assert not patch_of(tmp_path).is_dirty
    assert (tmp_path / ".git" / "index").read_bytes() == index


def test_the_patch_gives_the_files_again(tmp_path):
    folder = tmp_path / "project"
    odd = os.fsdecode(b"lab/n\xffame \"'.py")
    before = {"lab/nets.py": "a = 1\n", "lab/gone.py": "b = 1\n", odd: "c = 1\n", "image.bin": bytes(range(256))}
    after = {"lab/nets.py": "a = 2", odd: "c = 2\r\n", "image.bin": bytes(range(256))[::-1], "staged.py": "d\n"}
    write(folder, before)
    commit(folder)
    write(folder, {**after, "new/möre.py": "e = 1\n", "unused.py": "f = 1\n"})
    git(folder, "add", "staged.py")
    (folder / "lab" / "gone.py").unlink()
    found = patch_of(folder, ["new/möre.py", "lab/nets.py", "lab/missing.py"])
    assert (found.is_dirty, found.cut) == (True, False)
    target = applied(folder, found.content, tmp_path / "clean")
    for name in (*after, "new/möre.py"):
        assert (target / name).read_bytes() == (folder / name).read_bytes()
    assert not (target / "lab" / "gone.py").exists()
    assert not (target / "unused.py").exists()


def test_before_the_first_commit_all_tracked_files_are_changes(tmp_path):
    write(tmp_path, {"a.py": "a = 1\n", "b.py": "b = 1\n", "c.py": "c = 1\n"})
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", "a.py")
    found = patch_of(tmp_path, ["b.py"])
    assert open_repository(tmp_path).revision() is None
    assert [line for line in found.content.splitlines() if line.startswith(b"+++")] == [b"+++ b/b.py", b"+++ b/a.py"]


def test_a_huge_patch_ends_with_the_last_file_that_is_whole(tmp_path):
    folder = tmp_path / "project"
    write(folder, {"a.py": "", "b.txt": "", "c.py": ""})
    commit(folder)
    write(folder, {"a.py": "a = 1\n", "b.txt": "0123456789\n" * 200_000, "c.py": "c = 1\n"})
    found = patch_of(folder)
    assert found.cut
    assert len(found.content) <= MAX_PATCH_BYTES
    target = applied(folder, found.content, tmp_path / "clean")
    assert [(target / name).read_text() for name in ("a.py", "b.txt", "c.py")] == ["a = 1\n", "", ""]


def test_a_patch_of_one_file_that_is_too_large_is_empty_and_still_dirt(tmp_path):
    write(tmp_path, {"a.txt": ""})
    commit(tmp_path)
    write(tmp_path, {"a.txt": "0123456789\n" * 200_000})
    found = patch_of(tmp_path)
    assert (found.content, found.cut, found.is_dirty) == (b"", True, True)


@pytest.mark.parametrize("setting", ["diff.noprefix", "diff.mnemonicPrefix", "color.ui", "diff.relative"])
def test_settings_of_how_changes_are_shown_do_not_show(setting, tmp_path):
    write(tmp_path, {"lab/a.py": "a = 1\n", "lab/new.py": ""})
    commit(tmp_path, "lab/a.py")
    write(tmp_path, {"lab/a.py": "a = 2\n", "lab/new.py": "b = 1\n"})
    before = patch_of(tmp_path, ["lab/new.py"])
    git(tmp_path, "config", setting, "always" if setting == "color.ui" else "true")
    assert patch_of(tmp_path, ["lab/new.py"]) == before


# ---- what a stranger's repository may try ---------------------------------------------------------------------------

HOSTILE = {
    "file-system monitor": {"core.fsmonitor": "{run}"},
    "external diff": {"diff.external": "{run}"},
    "diff driver": {"diff.evil.command": "{run}"},
    "text conversion": {"diff.evil.textconv": "{run}"},
    "clean filter": {"filter.evil.clean": "{run}"},
    "filter process": {"filter.evil.process": "{run}", "filter.evil.required": "true"},
    "filter with a name that no option can hold": {"filter.e=vil.clean": "{run}"},
    "hooks": {"core.hooksPath": "{hooks}"},
    "pager": {"core.pager": "{run}", "pager.diff": "{run}", "pager.diff-index": "{run}"},
    "transport": {
        "extensions.partialClone": "origin",
        "remote.origin.promisor": "true",
        "remote.origin.url": "ext::{run}",
        "protocol.ext.allow": "always",
    },
    "included settings": {"include.path": "evil"},
}


@pytest.fixture
def hostile(tmp_path):
    """A repository with changes, and a program that leaves a trace."""
    folder, hooks = tmp_path / "project", tmp_path / "hooks"
    write(folder, {"a.py": "a = 1\n", ".gitattributes": "*.py diff=evil filter=evil\n*.e filter=e=vil\n", "b.e": "b\n"})
    commit(folder)
    write(folder, {"a.py": "a = 2\n", "b.e": "c\n", "new.py": "n = 1\n"})
    hooks.mkdir()
    for name in ("run", "post-index-change", "pre-auto-gc", "reference-transaction"):
        (hooks / name).write_text(f"#!/bin/sh\ntouch {tmp_path}/pwned\ncat\n")
        (hooks / name).chmod(0o755)
    return folder


def set_hostile(folder, settings):
    hooks = folder.parent / "hooks"
    (folder / ".git" / "evil").write_text(f'[core]\nfsmonitor = {hooks}/run\n[filter "evil"]\nclean = {hooks}/run\n')
    for name, value in settings.items():
        git(folder, "config", name, value.format(run=hooks / "run", hooks=hooks))


@pytest.mark.parametrize("settings", HOSTILE.values(), ids=HOSTILE)
def test_nothing_that_a_repository_names_is_run(settings, hostile):
    set_hostile(hostile, settings)
    if "remote.origin.url" in settings:  # an object is missing, which git would fetch
        blob = git(hostile, "rev-parse", "HEAD:a.py").decode().strip()
        (hostile / ".git" / "objects" / blob[:2] / blob[2:]).unlink()
    found = open_repository(hostile)
    patch = found and found.uncommitted([hostile / "new.py", hostile / "a.py"])
    assert not (hostile.parent / "pwned").exists()
    if "remote.origin.url" not in settings and "filter.e=vil.clean" not in settings:
        assert b"+a = 2" in patch.content
        assert b"+n = 1" in patch.content


@pytest.mark.parametrize("name", ["file-system monitor", "external diff", "clean filter", "diff driver"])
def test_what_is_not_run_would_be_run_by_git_itself(name, hostile):
    set_hostile(hostile, HOSTILE[name])
    subprocess.run(["git", "-C", str(hostile), "diff"], capture_output=True, check=False)
    assert (hostile.parent / "pwned").exists()


def test_a_repository_cannot_name_the_files_of_another_folder(tmp_path):
    folder, home = tmp_path / "project", tmp_path / "home"
    write(folder, {"secret": "public\n"})
    write(home, {"secret": "private\n"})
    commit(folder)
    git(folder, "config", "core.worktree", str(home))
    found = open_repository(folder)
    assert b"private" not in found.uncommitted().content


def test_the_environment_of_another_repository_is_ignored(tmp_path, monkeypatch):
    for name in ("one", "two"):
        write(tmp_path / name, {"a.py": f"a = '{name}'\n"})
        commit(tmp_path / name)
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "two" / ".git"))
    monkeypatch.setenv("GIT_EXTERNAL_DIFF", "false")
    revision = open_repository(tmp_path / "one").revision()
    monkeypatch.undo()
    assert revision == git(tmp_path / "one", "rev-parse", "HEAD").decode().strip()


def test_a_folder_that_only_looks_like_a_repository_is_none(tmp_path):
    commit_above = tmp_path / "a.py"
    commit_above.write_text("")
    commit(tmp_path)
    (tmp_path / "inner" / ".git").mkdir(parents=True)
    assert find_root(tmp_path / "inner") == tmp_path / "inner"
    assert open_repository(tmp_path / "inner") is None


def test_a_git_that_does_not_answer_is_stopped(tmp_path, monkeypatch):
    write(tmp_path, {"bin/git": f"#!{sys.executable}\nimport time\ntime.sleep(60)\n", "a.py": ""})
    commit(tmp_path, "a.py")
    (tmp_path / "bin" / "git").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setattr(repository, "_SECONDS", 0.3)
    begin = time.monotonic()
    assert open_repository(tmp_path) is None
    assert time.monotonic() - begin < 20
