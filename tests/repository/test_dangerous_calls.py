"""What runs on a device calls nothing by which bytes become code, a shell, or somebody else's file."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ON_DEVICES = ("ota_contract", "edge_runtime", "device_sdk")
MODULES = {"pickle", "cPickle", "_pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib", "commands"}
CALLS = {
    "eval",
    "exec",
    "compile",
    "__import__",
    "builtins.eval",
    "builtins.exec",
    "os.system",
    "os.popen",
    "os.tempnam",
    "os.tmpnam",
    "subprocess.getoutput",
    "subprocess.getstatusoutput",
    "asyncio.create_subprocess_shell",
    "tempfile.mktemp",
    "yaml.load",
    "yaml.load_all",
    "yaml.unsafe_load",
    "yaml.full_load",
    "torch.load",
    "ssl._create_unverified_context",
    "ssl.SSLContext",
}
METHODS = {"extractall", "add_unsafe"}
PREFIXES = ("os.exec", "os.spawn", "os.posix_spawn")


def dangers(code: str) -> Iterator[str]:
    """What in a module must not be there."""
    tree = ast.parse(code)
    names = dict(_imported(tree))
    for node in ast.walk(tree):
        match node:
            case ast.Import():
                yield from (alias.name for alias in node.names if alias.name.split(".")[0] in MODULES)
            case ast.ImportFrom():
                if (node.module or "").split(".")[0] in MODULES:
                    yield node.module or ""
                yield from filter(_is_forbidden, (f"{node.module}.{alias.name}" for alias in node.names))
            case ast.Call():
                yield from _of_call(node, names)
            case ast.Assign(targets=targets, value=value):
                for target in targets:
                    if isinstance(target, ast.Attribute) and _disarms(target.attr, value):
                        yield ast.unparse(node)


def _of_call(node: ast.Call, names: dict[str, str]) -> Iterator[str]:
    first, dot, rest = ast.unparse(node.func).partition(".")
    called = names.get(first, first) + dot + rest
    if _is_forbidden(called) or called.rpartition(".")[2] in METHODS:
        yield called
    options = {keyword.arg: keyword.value for keyword in node.keywords}
    for name in ("shell", "allow_pickle"):
        if name in options and not _is_false(options[name]):
            yield f"{called}({name}=…)"
    if called == "numpy.load" and not _is_false(options.get("allow_pickle")):
        yield "numpy.load without allow_pickle=False"
    if any(_disarms(name or "", value) for name, value in options.items()):
        yield f"{called} without verification"


def _imported(tree: ast.AST) -> Iterator[tuple[str, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield (
                    (alias.asname or alias.name.split(".")[0]),
                    (alias.name if alias.asname else alias.name.split(".")[0]),
                )
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                yield alias.asname or alias.name, f"{node.module}.{alias.name}"


def _is_forbidden(called: str) -> bool:
    return called in CALLS or called.startswith(PREFIXES) or called.split(".", maxsplit=1)[0] in MODULES


def _is_false(value: ast.expr | None) -> bool:
    return isinstance(value, ast.Constant) and value.value is False


def _disarms(name: str, value: ast.expr) -> bool:
    """Whether this turns off the verification of TLS."""
    if name in ("check_hostname", "assert_hostname", "verify"):
        return _is_false(value)
    return name in ("verify_mode", "cert_reqs") and "CERT_NONE" in ast.unparse(value)


@pytest.mark.parametrize(
    "code",
    [
        "import pickle",
        "import pickle as p",
        "from pickle import loads",
        "import marshal, json",
        "def f():\n    import shelve",
        "eval('1')",
        "exec(code)",
        "compile(code, '', 'exec')",
        "__import__(name)",
        "import os\nos.system('ls')",
        "import os as o\no.popen('ls')",
        "from os import system",
        "from os import system as s\ns('ls')",
        "import os\nos.execv(path, words)",
        "import subprocess\nsubprocess.run('ls', shell=True)",
        "import subprocess as sp\nsp.Popen('ls', shell=wanted)",
        "from subprocess import getoutput",
        "import tempfile\ntempfile.mktemp()",
        "from tempfile import mktemp as name\nname()",
        "import yaml\nyaml.load(data)",
        "import numpy\nnumpy.load(path)",
        "import numpy as np\nnp.load(path, allow_pickle=True)",
        "import numpy as np\nnp.load(path, allow_pickle=wanted)",
        "from numpy import load\nload(path)",
        "import tarfile\ntarfile.open(path).extractall(folder)",
        "context.verify_mode = ssl.CERT_NONE",
        "context.check_hostname = False",
        "pool(cert_reqs='CERT_NONE')",
        "import ssl\nssl._create_unverified_context()",
    ],
)
def test_the_check_notices(code: str) -> None:
    assert list(dangers(code))


@pytest.mark.parametrize(
    "code",
    [
        "import re\nre.compile('a')",
        "import subprocess\nsubprocess.run(['ls'], shell=False)",
        "import numpy as np\nnp.load(path, allow_pickle=False)",
        "import json\njson.load(stream)",
        "model.eval()",
        "import os\nos.path.join('a')",
        "context.verify_mode = ssl.CERT_REQUIRED",
        "context.check_hostname = True",
    ],
)
def test_the_check_lets_pass(code: str) -> None:
    assert list(dangers(code)) == []


@pytest.mark.parametrize("package", ON_DEVICES)
def test_nothing_on_a_device_turns_bytes_into_code(package: str) -> None:
    paths = sorted((ROOT / package).rglob("*.py"))
    assert paths
    found = {
        f"{path.relative_to(ROOT)}: {danger}"
        for path in paths
        for danger in dangers(path.read_text(encoding="utf-8"))
    }
    assert found == set()
