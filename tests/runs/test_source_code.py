"""The user's own code is recorded: the modules that components come from, versions, and the project's changes."""

import functools
import hashlib
import importlib
import importlib.metadata
import json
import os
import py_compile
import subprocess
import sys
import types
import zipfile

import optax
import pytest

from lenet_jax.ops.cpu.native import build
from lenet_jax.runs import source_code
from lenet_jax.runs.source_code import (
    changed_modules,
    describe_code,
    describe_object,
    describe_versions,
    digest_package,
    uncommitted_changes,
)
from tests.runs.projects import commit, git, write

pytestmark = pytest.mark.usefixtures("project")
NETS = """
    from mylab import helper

    def tiny():
        import mylab.late
        return helper.scale
"""
PACKAGE = {"mylab/nets.py": NETS, "mylab/helper.py": "scale = 2\n", "mylab/late.py": "", "mylab/unused.py": ""}


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def files(*targets):
    return {each["file"]: each["sha256"] for each in describe_code(targets)["modules"].values()}


# ---- modules --------------------------------------------------------------------------------------------------------


def test_of_this_package_one_digest_is_recorded_and_nothing_else():
    code = describe_code(["lenet_jax.models.lenet.lenet"])
    assert (code["components"], code["modules"], len(code["sha256"])) == ({}, {}, 64)


def test_a_model_and_what_its_package_imports_are_recorded(project):
    write(project, PACKAGE)
    assert files("mylab.nets.tiny") == {
        f"mylab/{name}.py": sha256(project / f"mylab/{name}.py") for name in ("helper", "nets")
    }
    sys.modules["mylab.nets"].tiny()
    assert "mylab/late.py" in files("mylab.nets.tiny")
    assert "mylab/unused.py" not in files("mylab.nets.tiny")


def test_a_package_with_an_init_is_recorded_with_it(project):
    write(project, {**PACKAGE, "mylab/__init__.py": "version = 1\n"})
    assert set(files("mylab.nets.tiny")) == {"mylab/__init__.py", "mylab/helper.py", "mylab/nets.py"}


def test_a_single_file_and_the_modules_beside_it_are_recorded(project):
    write(project, {"nets.py": "import beside, optax, json\n\ndef tiny(): pass\n", "beside.py": "", "other.py": ""})
    assert files("nets.tiny") == {name: sha256(project / name) for name in ("beside.py", "nets.py")}


def test_installed_packages_inside_the_project_are_not_recorded(project, monkeypatch):
    write(project, {".venv/lib/site-packages/theirs.py": "", "nets.py": "import theirs\n\ndef tiny(): pass\n"})
    monkeypatch.syspath_prepend(str(project / ".venv" / "lib" / "site-packages"))
    assert set(files("nets.tiny")) == {"nets.py"}


def test_a_function_that_is_handed_on_is_recorded_where_it_is_defined(project, monkeypatch):
    write(project / "lib", {"deep/nets.py": "def tiny(): pass\n"})
    write(project, {"mylab.py": "from deep.nets import tiny\n"})
    monkeypatch.syspath_prepend(str(project / "lib"))
    code = describe_code(["mylab.tiny"])
    assert {each["file"] for each in code["modules"].values()} == {"mylab.py", "deep/nets.py"}
    assert code["components"]["mylab.tiny"]["name"] == "deep.nets.tiny"


def test_files_are_named_from_the_root_of_the_repository(project, monkeypatch):
    write(project, {f"src/{name}": content for name, content in PACKAGE.items()})
    monkeypatch.syspath_prepend(str(project / "src"))
    git(project, "init", "-q")
    assert set(files("mylab.nets.tiny")) == {"src/mylab/helper.py", "src/mylab/nets.py"}


def test_a_folder_that_is_not_utf8_is_named_in_json(tmp_path, project, monkeypatch):
    folder = os.fsdecode(b"s\xffrc")
    write(project / folder, PACKAGE)
    monkeypatch.syspath_prepend(str(project / folder))
    git(project, "init", "-q")
    assert set(files("mylab.nets.tiny")) == {"s\\xffrc/mylab/helper.py", "s\\xffrc/mylab/nets.py"}
    assert b"scale = 2" in uncommitted_changes(["mylab.nets.tiny"])


def test_a_module_without_source_is_recorded_without_a_digest(project, monkeypatch):
    write(project, {"source.py": "def tiny(): pass\n"})
    py_compile.compile(str(project / "source.py"), cfile=str(project / "compiled.pyc"))
    assert files("compiled.tiny") == {"compiled.pyc": None}
    with zipfile.ZipFile(project / "lib.zip", "w") as archive:
        archive.writestr("zipped/__init__.py", "")
        archive.writestr("zipped/nets.py", "def tiny(): pass\n")
    monkeypatch.syspath_prepend(str(project / "lib.zip"))
    found = describe_code(["zipped.nets.tiny"])["modules"]["zipped.nets"]
    assert (found["file"], found["sha256"]) == ("zipped/nets.py", None)


def test_a_file_that_is_removed_after_it_was_imported_has_no_digest(project):
    write(project, {"removed.py": "def tiny(): pass\n"})
    importlib.import_module("removed")
    (project / "removed.py").unlink()
    assert files("removed.tiny") == {"removed.py": None}


def test_a_file_that_is_edited_is_another_once_it_is_loaded_again(project):
    write(project, PACKAGE)
    commit(project)
    first, patch = describe_code(["mylab.nets.tiny"]), uncommitted_changes(["mylab.nets.tiny"])
    write(project, {"mylab/helper.py": "scale = 30\n"})
    assert describe_code(["mylab.nets.tiny"]) == first
    assert uncommitted_changes(["mylab.nets.tiny"]) is patch is None
    importlib.reload(sys.modules["mylab.helper"])
    assert files("mylab.nets.tiny")["mylab/helper.py"] == sha256(project / "mylab/helper.py")
    assert b"+scale = 30" in uncommitted_changes(["mylab.nets.tiny"])


# ---- what has changed -----------------------------------------------------------------------------------------------


def test_a_module_that_was_and_is_loaded_is_compared_wherever_it_lies():
    old = {"lab.a": {"file": "lab/a.py", "sha256": "1"}, "lab.b": {"file": "lab/b.py", "sha256": "1"}}
    new = {"lab.a": {"file": "src/lab/a.py", "sha256": "1"}, "lab.b": {"file": "lab/b/__init__.py", "sha256": "2"}}
    assert list(changed_modules(old, new)) == [("lab/b/__init__.py", "1", "2")]


def test_a_module_that_was_loaded_only_once_is_not_compared():
    one, other = ({f"lab.{name}": {"file": f"{name}.py", "sha256": "1"}} for name in "ab")
    assert list(changed_modules(one, other)) == []
    assert list(changed_modules({"lab.b": "damaged"}, other)) == []


# ---- objects --------------------------------------------------------------------------------------------------------


def test_a_function_and_a_class_are_described_by_their_path_and_source(project):
    write(project, {"shapes.py": "class Box:\n    def area(self): return 1\n\ndef tiny(): pass\n"})
    shapes = importlib.import_module("shapes")
    digest = hashlib.sha256(b"def tiny(): pass\n").hexdigest()
    assert describe_object(shapes.tiny) == {
        "name": "shapes.tiny", "module": "shapes", "file": "shapes.py", "sha256": digest
    }  # fmt: skip
    assert describe_object(shapes.Box)["name"] == "shapes.Box"
    assert describe_object(shapes.Box.area)["name"] == "shapes.Box.area"


def test_what_no_import_leads_to_is_unnamed(project, monkeypatch):
    def local():
        pass

    notebook = types.ModuleType("__main__")
    exec("def cell(): pass", notebook.__dict__)
    monkeypatch.setitem(sys.modules, "__main__", notebook)
    odd = types.SimpleNamespace(__module__=[], __qualname__=3)
    for value in (lambda x: x, local, functools.partial(local), notebook.cell, 3, None, sys, odd):
        assert describe_object(value)["name"] is None
    assert describe_object(local)["module"] == __name__
    assert len(describe_object(local)["sha256"]) == 64
    assert describe_object(notebook.cell)["sha256"] is None
    assert describe_object(notebook.cell)["file"] is None


# ---- versions -------------------------------------------------------------------------------------------------------


def test_of_an_installed_package_the_version_is_recorded_and_no_module():
    code = describe_code(["optax.lion"])
    assert code["modules"] == {}
    assert (code["components"]["optax.lion"]["file"].split("/")[0]) == "optax"
    assert describe_versions(["optax.lion"]) == {"optax": optax.__version__}


def test_a_standard_function_has_no_version():
    assert describe_versions(["functools.partial"]) == {}
    assert describe_code(["functools.partial"])["modules"] == {}


def install(folder, name, package, origin):
    info = folder / f"{name.replace('-', '_')}-2.5.dist-info"
    metadata = {"METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 2.5\n", "top_level.txt": f"{package}\n"}
    write(info, {**metadata, "RECORD": "", "direct_url.json": origin})


@pytest.mark.parametrize(
    ("origin", "found"),
    [('{"url": "file:///x", "dir_info": {"editable": true}}', {"my-lab": "2.5"}), ("{}", {}), ("damaged", {})],
)
def test_a_project_has_the_version_of_its_installation_in_development_mode(origin, found, project, monkeypatch):
    write(project, PACKAGE)
    install(project / "elsewhere", "my-lab", "mylab", origin)
    monkeypatch.syspath_prepend(str(project / "elsewhere"))
    source_code._distributions.cache_clear()
    assert describe_versions(["mylab.nets.tiny"]) == found
    source_code._distributions.cache_clear()


# ---- the project ----------------------------------------------------------------------------------------------------

TINY = ["mylab.nets.tiny"]


def test_without_a_repository_there_is_no_project(project):
    write(project, PACKAGE)
    assert describe_code(TINY)["project"] is None
    assert uncommitted_changes(TINY) is None


def test_without_git_there_is_no_project(project, monkeypatch):
    write(project, PACKAGE)
    commit(project)
    monkeypatch.setenv("PATH", "")
    assert describe_code(TINY)["project"] is None


def test_a_clean_project_has_a_revision(project):
    write(project, PACKAGE)
    commit(project)
    revision = git(project, "rev-parse", "HEAD").decode().strip()
    assert describe_code(TINY)["project"] == {"revision": revision, "dirty": False, "patch": None}


def test_before_the_first_commit_the_revision_is_unknown_and_the_modules_are_in_the_patch(project):
    write(project, PACKAGE)
    git(project, "init", "-q")
    found = describe_code(TINY)["project"]
    assert (found["revision"], found["dirty"]) == (None, True)
    assert uncommitted_changes(TINY).count(b"new file mode") == 2


def test_the_patch_of_a_changed_project_gives_the_recorded_files(project, tmp_path):
    write(project, {**PACKAGE, "notes.md": "one\n"})
    commit(project, "mylab/nets.py", "mylab/late.py", "notes.md")
    write(project, {"mylab/nets.py": NETS.replace("tiny", "small"), "notes.md": "two\n"})
    code, patch = describe_code(["mylab.nets.small"]), uncommitted_changes(["mylab.nets.small"])
    assert code["project"]["dirty"] is True
    assert code["project"]["patch"] == {
        "file": "code.patch", "bytes": len(patch), "cut": False, "sha256": hashlib.sha256(patch).hexdigest()
    }  # fmt: skip
    clean = tmp_path / "clean"
    git(project, "clone", "-q", str(project), str(clean))
    git(clean, "checkout", "-q", code["project"]["revision"])
    (tmp_path / "code.patch").write_bytes(patch)
    subprocess.run(["git", "-C", str(clean), "apply", "--check", str(tmp_path / "code.patch")], check=True)
    git(clean, "apply", str(tmp_path / "code.patch"))
    assert {each["file"]: sha256(clean / each["file"]) for each in code["modules"].values()} == files(
        "mylab.nets.small"
    )
    assert (clean / "notes.md").read_text() == "two\n"
    assert not (clean / "mylab" / "unused.py").exists()


def test_no_patch_is_made_if_the_user_says_so(project, monkeypatch):
    write(project, PACKAGE)
    git(project, "init", "-q")
    monkeypatch.setenv("LENET_JAX_NO_PATCH", "1")
    assert describe_code(TINY)["project"] == {"revision": None, "dirty": True, "patch": None}
    assert uncommitted_changes(TINY) is None
    monkeypatch.setenv("LENET_JAX_NO_PATCH", "0")
    assert uncommitted_changes(TINY) is not None


def test_without_own_components_the_project_is_that_of_the_working_directory(project):
    write(project, {"a.py": "a = 1\n"})
    commit(project)
    write(project, {"a.py": "a = 2\n"})
    assert describe_code([])["project"]["dirty"] is True
    assert b"+a = 2" in uncommitted_changes([])
    commit(project)
    assert describe_code([])["project"]["dirty"] is False


def test_the_project_of_the_modules_comes_before_that_of_the_working_directory(project, tmp_path, monkeypatch):
    write(project, PACKAGE)
    commit(project)
    write(tmp_path / "results", {"a.txt": "a\n"})
    commit(tmp_path / "results")
    monkeypatch.chdir(tmp_path / "results")
    assert describe_code(TINY)["project"]["revision"] == git(project, "rev-parse", "HEAD").decode().strip()


# ---- this package ---------------------------------------------------------------------------------------------------


def test_only_changes_of_code_and_configuration_are_dirt(tmp_path, monkeypatch):
    folder = tmp_path / "clone"
    module = folder / "lenet_jax" / "runs" / "source_code.py"
    write(folder, {"lenet_jax/runs/source_code.py": "", "README.md": ""})
    commit(folder)
    monkeypatch.setattr("lenet_jax.runs.source_code.__file__", str(module))
    write(folder, {"outputs/result.json": "{}", "README.md": "changed"})
    assert describe_code([])["dirty"] is False
    write(folder, {"conf/model/new.yaml": ""})
    assert describe_code([])["dirty"] is True
    (folder / "conf" / "model" / "new.yaml").unlink()
    module.write_text("changed")
    assert describe_code([])["dirty"] is True


def test_without_git_the_revision_is_unknown(monkeypatch):
    monkeypatch.setenv("PATH", "")
    code = describe_code([])
    assert (code["revision"], code["dirty"]) == (None, None)


def test_the_digest_of_the_code_changes_with_a_name_and_with_a_byte(tmp_path):
    digests = set()
    for name, content in (("a.py", "x = 1"), ("a.py", "x = 2"), ("b.py", "x = 2")):
        folder = tmp_path / str(len(digests))
        folder.mkdir()
        (folder / name).write_text(content)
        digests |= {digest_package(folder)}
    assert len(digests) == 3


# ---- what a wheel is built with -------------------------------------------------------------------------------------


def test_a_wheel_gets_the_commit_and_the_digest_that_a_run_of_the_clone_records(tmp_path):
    package = tmp_path / "lenet_jax"
    (package / "ops").mkdir(parents=True)
    (package / "a.py").write_text("a = 1\n")
    (package / "ops" / "b.py").write_text("b = 2\n")
    assert build.describe_code(tmp_path) is None  # no clone
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "first"]):
        subprocess.run([*git, *command], cwd=tmp_path, check=True)
    head = subprocess.run([*git, "rev-parse", "HEAD"], cwd=tmp_path, check=True, capture_output=True, text=True)
    expected = {"revision": head.stdout.strip(), "dirty": False, "sha256": digest_package(package)}
    assert build.describe_code(tmp_path) == expected
    (package / "a.py").write_text("a = 2\n")
    assert build.describe_code(tmp_path) == {**expected, "dirty": True, "sha256": digest_package(package)}


def test_the_template_of_a_project_is_no_code_of_the_package(tmp_path):
    (tmp_path / "a.py").write_text("a = 1\n")
    before = digest_package(tmp_path)
    template = tmp_path / "cli" / "project_template"
    template.mkdir(parents=True)
    (template / "b.py").write_text("b = 2\n")
    assert digest_package(tmp_path) == before


@pytest.mark.parametrize(("digest", "dirty"), [(None, False), ("another", True)])
def test_an_installed_package_has_what_its_wheel_was_built_with(digest, dirty, tmp_path, monkeypatch):
    package = tmp_path / "site-packages" / "lenet_jax"
    (package / "runs").mkdir(parents=True)
    (package / "runs" / "source_code.py").write_text("")
    own = digest or digest_package(package)
    (package / "revision.json").write_text(json.dumps({"revision": "abc", "dirty": False, "sha256": own}))
    monkeypatch.setattr(source_code, "__file__", str(package / "runs" / "source_code.py"))
    found = source_code._describe_own()
    assert found == {"revision": "abc", "dirty": dirty, "sha256": digest_package(package)}
