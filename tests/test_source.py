"""The source executes nothing that it reads: no pickles, no text as code, no shell; one module imports by name."""

import ast

import pytest

from tests.conftest import ROOT

UNPICKLER = "lenet_jax/data/pickle_archive.py"  # one that makes arrays only
EXECUTOR = "lenet_jax/engines/joblib_engine.py"  # hands objects of ours to processes of ours; reads no file
IMPORTER = (
    "lenet_jax/components.py"  # of what the user names or has allowed; see tests/faults/test_hostile_directory.py
)
FILES = sorted(path for folder in ("lenet_jax", "hydra_plugins") for path in (ROOT / folder).rglob("*.py"))

MODULES = {
    *("pickle", "_pickle", "cPickle", "marshal", "shelve", "dill", "cloudpickle", "jsonpickle", "joblib"),
    *("builtins", "code", "codeop", "imp", "runpy", "pty", "jax.experimental.serialize_executable"),
}
NAMES = {
    *("eval", "exec", "compile", "__import__", "builtins", "__builtins__"),
    *("os.system", "os.popen", "os.startfile", "tempfile.mktemp", "subprocess.getoutput", "subprocess.getstatusoutput"),
    *("pandas.read_pickle", "torch.load", "numpy.DataSource"),
    *(
        f"os.{kind}{ending}"
        for kind in ("exec", "spawn")
        for ending in ("l", "le", "lp", "lpe", "v", "ve", "vp", "vpe")
    ),
    *("os.posix_spawn", "os.posix_spawnp", "asyncio.create_subprocess_shell"),
    *(f"yaml.{name}{all_}" for name in ("load", "full_load", "unsafe_load") for all_ in ("", "_all")),
    *(f"yaml.{name}" for name in ("Loader", "CLoader", "FullLoader", "UnsafeLoader", "CFullLoader", "CUnsafeLoader")),
}
SWITCHES = ("allow_pickle", "shell")  # must be False where they are given
LITERAL = ("importlib.import_module", "importlib.__import__", "getattr")  # the name must not be one of NAMES


def imported(tree):
    """Return what each name that is imported stands for."""
    found = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for each in node.names:
                found[each.asname or each.name.partition(".")[0]] = (
                    each.name if each.asname else each.name.partition(".")[0]
                )
                found.setdefault(f"import {each.name}", each.name)
        elif isinstance(node, ast.ImportFrom):
            for each in node.names:
                found[each.asname or each.name] = f"{node.module or ''}.{each.name}"
    return found


def full_name(node, names):
    """Return the dotted name that an expression stands for; None if it is none."""
    if isinstance(node, ast.Name):
        return names.get(node.id, node.id)
    if isinstance(node, ast.Attribute) and (owner := full_name(node.value, names)):
        return f"{owner}.{node.attr}"
    return None


def root(node):
    return root(node.value) if isinstance(node, ast.Attribute) else node.id


def is_module(name):
    return any(name == module or name.startswith(f"{module}.") for module in MODULES)


def dangers(source):
    """Return what a module does that could execute what it reads, line by line."""
    tree = ast.parse(source)
    names = imported(tree)
    found = [f"import of {name}" for name in names.values() if is_module(name) or name in NAMES]
    for node in ast.walk(tree):
        name = full_name(node, names) if isinstance(node, ast.Name | ast.Attribute) else None
        if name in NAMES or (name and is_module(name) and root(node) in names):
            found.append(name)
        if not isinstance(node, ast.Call):
            continue
        called = full_name(node.func, names)
        for keyword in node.keywords:
            if keyword.arg in SWITCHES and not (
                isinstance(keyword.value, ast.Constant) and keyword.value.value is False
            ):
                found.append(f"{called}({keyword.arg})")
        if called == "numpy.load" and any(keyword.arg is None for keyword in node.keywords):
            found.append("numpy.load(**)")
        if called in LITERAL[:2] and not (node.args and isinstance(node.args[0], ast.Constant)):
            found.append(f"{called} of a text that is computed")
        texts = [each.value for each in node.args if isinstance(each, ast.Constant) and isinstance(each.value, str)]
        if called in LITERAL and any(text in NAMES or is_module(text) for text in texts):
            found.append(f"{called} of {texts}")
        if called == "getattr" and full_name(node.args[0], names) == "os" and not texts:
            found.append("getattr of os")
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_module_executes_what_it_reads(path):
    found = dangers(path.read_text())
    if str(path.relative_to(ROOT)) == UNPICKLER:
        assert set(found) <= {"import of pickle", "pickle", "pickle.Unpickler", "pickle.UnpicklingError"}
    elif str(path.relative_to(ROOT)) == IMPORTER:
        assert found == ["importlib.import_module of a text that is computed"]
    elif str(path.relative_to(ROOT)) == EXECUTOR:
        assert all("joblib.externals.loky." in each or "joblib.effective_n_jobs" in each for each in found)
    else:
        assert found == []


BAD = [
    "import pickle",
    "import pickle as numbers",
    "from pickle import loads",
    "from pickle import Unpickler as Reader",
    "import _pickle",
    "def f():\n    import cloudpickle",
    "import dill",
    "import marshal",
    "import shelve",
    "import joblib\njoblib.load('a')",
    "from joblib import load",
    "import runpy",
    "eval('1')",
    "exec('a = 1')",
    "run = eval",
    "compile('1', '', 'eval')",
    "__import__('os')",
    "import builtins\nbuiltins.eval('1')",
    "from builtins import exec as run",
    "__builtins__['eval']('1')",
    "getattr(object, 'eval')('1')",
    "import os\ngetattr(os, 'sys' + 'tem')('a')",
    "import importlib\nimportlib.import_module(name)",
    "import importlib as i\ni.import_module('pickle')",
    "from importlib import import_module as get\nget(f'{a}.b')",
    "import yaml\nyaml.load(text, Loader=yaml.SafeLoader)",
    "import yaml as y\ny.unsafe_load(text)",
    "from yaml import full_load",
    "from yaml import load_all as read",
    "import yaml\nread = yaml.UnsafeLoader",
    "import numpy as np\nnp.load('a', allow_pickle=True)",
    "import numpy as np\nnp.load('a', allow_pickle=flag)",
    "import numpy as np\nnp.load('a', **options)",
    "from numpy import load\nload('a', allow_pickle=1)",
    "import torch\ntorch.load('a')",
    "from jax.experimental import serialize_executable",
    "from jax.experimental.serialize_executable import deserialize_and_load",
    "import jax.experimental.serialize_executable as s",
    "import jax.experimental.serialize_executable",
    "import jax\njax.experimental.serialize_executable.serialize(program)",
    "import subprocess\nsubprocess.run('a', shell=True)",
    "import subprocess as s\ns.Popen('a', shell=flag)",
    "from subprocess import run\nrun('a', shell=1)",
    "import subprocess\nsubprocess.getoutput('a')",
    "import os\nos.system('a')",
    "import os as o\no.popen('a')",
    "from os import system as call",
    "import os\nos.execvp('a', [])",
    "import tempfile\ntempfile.mktemp()",
    "from tempfile import mktemp as name",
    "class A:\n    def f(self):\n        return lambda: eval('1')",
]


@pytest.mark.parametrize("source", BAD)
def test_a_bad_line_is_found(source):
    assert dangers(source)


GOOD = [
    "import re\nre.compile('a')",
    "program.lower(x).compile()",
    "import importlib\nimportlib.import_module('lenet_jax.models')",
    "import yaml\nyaml.safe_load(text)\nyaml.dump({})",
    "import numpy as np\nnp.load('a')\nnp.load('a', allow_pickle=False)",
    "import subprocess\nsubprocess.run(['git'], check=True)\nsubprocess.run(['a'], shell=False)",
    "import os\nos.environ['A']\ngetattr(os, 'getuid')()",
    "import tempfile\ntempfile.mkdtemp()",
    "def evaluate(model):\n    return model.exec_count",
]


@pytest.mark.parametrize("source", GOOD)
def test_a_harmless_line_is_not(source):
    assert dangers(source) == []
