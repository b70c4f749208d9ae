"""Which modules of ours a pass runs, read from their source without importing any, and their digest."""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import re
import threading
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

__all__ = ["OURS", "code_digest", "modules_of"]

OURS = ("converter", "edge_runtime", "ota_contract")
_PARSING = threading.Lock()
"""CPython 3.11 counts the depth of a tree once for all threads: two parsing at a time raise SystemError."""
_DOTTED = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+")


def code_digest(module: str) -> str:
    """SHA-256 of the source of a module and of all it imports, from our packages and from its own."""
    digest = hashlib.sha256()
    for name, path in sorted(modules_of(module).items()):
        digest.update(f"{name} {_file_digest(path)}\n".encode())
    return digest.hexdigest()


def modules_of(module: str) -> Mapping[str, Path]:
    """A module and all it imports, directly or not, by name; only of our packages and of its own.

    Imports within functions count, and so does a text that is the name of a module: it may be imported by
    `importlib`.
    """
    roots = frozenset({*OURS, module.partition(".")[0]})
    found: dict[str, Path] = {}
    pending = [module]
    while pending:
        name = pending.pop()
        path = None if name in found or name.partition(".")[0] not in roots else _source(name)
        if path is None:
            continue
        found[name] = path
        pending.extend(_imported(name, path))
        if "." in name:
            pending.append(name.rpartition(".")[0])  # its package's __init__ is run first
    return found


@cache
def _source(name: str) -> Path | None:
    """The file of a module; None where there is no such module, as for a name within one."""
    top, *rest = name.split(".")
    root = _root(top)
    if root is None:
        return None
    if not rest and root.is_file():
        return root
    places = [root.joinpath(*rest, "__init__.py")]
    if rest:
        places.append(root.joinpath(*rest[:-1], f"{rest[-1]}.py"))
    return next((path for path in places if path.is_file()), None)


@cache
def _root(top: str) -> Path | None:
    spec = importlib.util.find_spec(top)  # of a top-level package: finds, and imports nothing
    if spec is None:
        return None
    if spec.submodule_search_locations:
        return Path(next(iter(spec.submodule_search_locations)))
    return Path(spec.origin) if spec.origin and spec.origin.endswith(".py") else None


@cache
def _imported(name: str, path: Path) -> tuple[str, ...]:
    is_package = path.name == "__init__.py"
    # What a package's functions import is not run by importing a module in it: packages offer their API so.
    with _PARSING:
        tree = ast.parse(path.read_bytes())
    nodes = _running(tree, functions=not is_package)
    return tuple(found for node in nodes for found in _names(node, name, is_package=is_package))


def _running(node: ast.AST, *, functions: bool) -> Iterator[ast.AST]:
    """A tree's nodes but those that type checkers alone look at."""
    yield node
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
            for other in child.orelse:
                yield from _running(other, functions=functions)
        elif functions or not isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield from _running(child, functions=functions)


def _names(node: ast.AST, name: str, *, is_package: bool) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        parts = name.split(".")
        parts = parts[: len(parts) - node.level + is_package] if node.level else []
        base = ".".join([*parts, *([node.module] if node.module else [])])
        yield base
        yield from (f"{base}.{alias.name}" for alias in node.names)
    elif isinstance(node, ast.Constant) and isinstance(node.value, str) and _DOTTED.fullmatch(node.value):
        yield node.value


@cache
def _file_digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
