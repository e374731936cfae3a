"""Projects of users, with and without git, for tests of what is recorded of their code."""

import subprocess
import textwrap


def git(folder, *arguments, check=True):
    """Run git, as a user who has set nothing."""
    identity = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "init.defaultBranch=main"]
    done = subprocess.run(["git", "-C", str(folder), *identity, *arguments], capture_output=True, check=False)
    assert done.returncode == 0 or not check, done.stderr.decode()
    return done.stdout


def write(folder, files):
    """Write the files of a dictionary from relative paths to text or bytes."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else textwrap.dedent(content).encode())


def commit(folder, *paths):
    """Commit files, in a new repository if there is none."""
    if not (folder / ".git").exists():
        git(folder, "init", "-q")
    git(folder, "add", *(paths or ["."]))
    git(folder, "commit", "-q", "-m", "one")
