"""Real sentences: what installed packages say of themselves, the first line of each public docstring.

The sources are parsed, never imported. Which set a sentence belongs to depends on the sentence alone, so
another version of a package moves none from one set to another.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import re
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path

__all__ = ["PACKAGES", "SPLITS", "sentences_of", "split_sentences"]

PACKAGES = ("numpy", "scipy", "sklearn")
SPLITS = {"golden": 8, "evaluation": 200, "calibration": 64}
"""Sentences of each set."""

_SENTENCE = re.compile(r"[A-Z][A-Za-z0-9 ,;:()'\"/-]{23,}\.")
"""Prose: no formulas, markup or signatures, which a vocabulary of English words takes apart."""
_FEWEST_WORDS, _MOST_WORDS = 5, 40
_SHARES = (("golden", 0.05), ("calibration", 0.35), ("evaluation", 1.0))
"""Up to which hash a sentence belongs to a set; far more fall into each than are taken."""


def sentences_of(packages: Iterable[str] = PACKAGES) -> list[str]:
    """Every sentence found, each once, in order of their hashes.

    Raises:
        FileNotFoundError: A package is not installed.
    """
    found = {sentence for package in packages for sentence in _sentences_in(_folder_of(package))}
    return sorted(found, key=_hash)


def split_sentences(sentences: Iterable[str]) -> dict[str, list[str]]:
    """The sentences of each set, as many as `SPLITS` says.

    Raises:
        ValueError: There are too few.
    """
    splits: dict[str, list[str]] = {name: [] for name in SPLITS}
    for sentence in sentences:
        place = int(_hash(sentence)[:8], 16) / 2**32
        name = next(name for name, upto in _SHARES if place < upto)
        if len(splits[name]) < SPLITS[name]:
            splits[name].append(sentence)
    for name, wanted in SPLITS.items():
        if len(splits[name]) < wanted:
            raise ValueError(f"{len(splits[name])} sentences for the {name} set, {wanted} are needed")
    return splits


def _hash(sentence: str) -> str:
    return hashlib.sha256(sentence.encode()).hexdigest()


def _folder_of(package: str) -> Path:
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError(f"{package} is not installed")
    return Path(spec.submodule_search_locations[0])


def _sentences_in(folder: Path) -> Iterator[str]:
    for path in sorted(folder.rglob("*.py")):
        if "tests" in path.relative_to(folder).parts:
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)  # of others' escapes
            tree = ast.parse(path.read_bytes())
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef):
                sentence = _first_sentence(node)
                if sentence:
                    yield sentence


def _first_sentence(node: ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef) -> str:
    """The first paragraph where it is one sentence of prose, else an empty string."""
    if node.name.startswith("_"):
        return ""
    paragraph = " ".join((ast.get_docstring(node) or "").split("\n\n")[0].split())
    fits = _SENTENCE.fullmatch(paragraph) and _FEWEST_WORDS <= len(paragraph.split()) <= _MOST_WORDS
    return paragraph if fits else ""
