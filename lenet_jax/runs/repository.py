"""A project's git repository: its revision, and the changes that are not committed, read without running its code.

Settings of a repository can name commands: filters, hooks, a file-system monitor, external diffs, transports. All of
them are turned off here; the user's own settings, which are not the repository's, are kept.
"""

import functools
import os
import signal
import subprocess
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

MAX_PATCH_BYTES = 1_000_000
_MAX_BYTES = 10_000_000  # of any other answer
_SECONDS = 10.0  # that git may take for an answer
_SAFE = (
    *("--no-pager", "--literal-pathspecs"),
    *("-c", "core.fsmonitor=false", "-c", f"core.hooksPath={os.devnull}", "-c", "protocol.allow=never"),
)
_DIFF = (
    *("-p", "--binary", "--full-index", "--no-renames", "--no-color", "--no-ext-diff", "--no-textconv"),
    *("--src-prefix=a/", "--dst-prefix=b/", "--ignore-submodules=dirty"),
)


class Patch(NamedTuple):
    """The changes of a project that are not committed, for `git apply`."""

    content: bytes
    cut: bool  # whether files are missing, because all of them would have more than `MAX_PATCH_BYTES`

    @property
    def is_dirty(self) -> bool:
        """Return whether there are changes."""
        return self.cut or self.content != b""


def find_root(folder: Path) -> Path | None:
    """Return the folder of the repository that a folder lies in; None if it lies in none."""
    return next((each for each in (folder, *folder.parents) if (each / ".git").exists()), None)


class Repository:
    """A repository that git can read."""

    def __init__(self, root: Path, options: list[bytes]) -> None:
        """Keep the folder and the options for git; see `open_repository`."""
        self.root = root
        self._options = options

    def revision(self) -> str | None:
        """Return the commit that is checked out; None if there is none yet."""
        return self._ask("rev-parse", "--verify", "--quiet", "HEAD^{commit}")

    def uncommitted(self, files: Iterable[Path] = (), *, within: Iterable[str] = ()) -> Patch | None:
        """Return the changes of tracked files, and the files of a list that are untracked.

        Args:
            files: in the repository, tracked or not.
            within: folders that the changes of tracked files are restricted to, relative to the root; none: all.

        Returns:
            The patch, empty if there are no changes; None if git cannot say.
        """
        names = sorted(os.fsencode(file.relative_to(self.root)) for file in files if file.is_file())
        tracked = _git(self.root, *self._options, "ls-files", "-z", "--", *names) if names else b""
        base = self.revision() or self._ask("hash-object", "-t", "tree", os.devnull)  # the empty tree
        if tracked is None or base is None:
            return None
        untracked = [name for name in names if name not in tracked.split(b"\0")]
        commands: list[tuple[str | bytes, ...]]
        commands = [("diff", "--no-index", *_DIFF, "--", os.devnull, name) for name in untracked]
        commands.append(("diff-index", *_DIFF, base, "--", *within))
        content = b""
        for command in commands:
            limit = MAX_PATCH_BYTES + 1 - len(content)
            found = _git(self.root, *self._options, *command, limit=limit)
            if found is None:
                return None
            content += found
            if len(content) > MAX_PATCH_BYTES:
                return Patch(_whole_files(content), True)
        return Patch(content, False)

    def _ask(self, *arguments: str) -> str | None:
        found = _git(self.root, *self._options, *arguments)
        return found.decode("ascii").strip() or None if found is not None else None


def open_repository(root: Path) -> Repository | None:
    """Open the repository in a folder.

    Args:
        root: as `find_root` returns it.

    Returns:
        The repository; None if there is no git, or it refuses the folder, as one that belongs to another user.
    """
    if not _git(root, "rev-parse", "--git-dir"):
        return None
    found = _git(root, "config", "-z", "--show-scope", "--get-regexp", r"^filter\.")
    if found is None:
        return None
    parts = found.split(b"\0")[:-1]
    filters = {
        setting.partition(b"\n")[0].rpartition(b".")[0]
        for scope, setting in zip(parts[::2], parts[1::2], strict=True)
        if scope not in (b"system", b"global")
    }
    if any(b"=" in name for name in filters):  # no option of git can turn such a name off
        return None
    empty = [b"%s.%s=" % (name, key) for name in sorted(filters) for key in (b"clean", b"smudge", b"process")]
    optional = [b"%s.required=false" % name for name in sorted(filters)]
    return Repository(root, [argument for setting in (*empty, *optional) for argument in (b"-c", setting)])


def _whole_files(content: bytes) -> bytes:
    """Return the beginning of a patch up to the last file that is whole and within the limit."""
    return content[: content.rfind(b"\ndiff --git ") + 1]


def _git(root: Path, *arguments: str | bytes, limit: int = _MAX_BYTES) -> bytes | None:
    """Return what git prints, at most its first `limit` bytes; None if it fails or takes too long."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    configuration = {name: value for name, value in os.environ.items() if name.startswith("GIT_CONFIG")}
    own = {
        "GIT_WORK_TREE": str(root),  # not the one that the repository names
        "GIT_CEILING_DIRECTORIES": str(root.parent),
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_NO_LAZY_FETCH": "1",
        "GIT_ALLOW_PROTOCOL": "none",
        "GIT_TERMINAL_PROMPT": "0",
    }
    try:
        process = subprocess.Popen(
            ["git", *_SAFE, *arguments],
            cwd=root,
            env={**kept, **configuration, **own},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    except OSError:
        return None
    with process:
        stop = functools.partial(os.killpg, process.pid, signal.SIGKILL)  # and what it has started
        timer = threading.Timer(_SECONDS, stop)
        timer.start()
        try:
            content = process.stdout.read(limit) if process.stdout else b""
        finally:
            timer.cancel()
        if len(content) == limit:
            stop()
            return content
    # 1: no setting of that name, or a difference.
    return content if process.returncode in (0, 1) else None
