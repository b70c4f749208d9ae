"""What made a package, as the manifest records it: versions, recipe, and the command typed."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Sequence
from pathlib import PurePath

from converter.recipe import Recipe
from converter.routes import Pass, version_of
from ota_contract import __version__

__all__ = ["command_line", "toolchain"]

_ALWAYS = ("numpy",)
_ALONGSIDE = {"tensorflow": ("keras",)}
_LONGEST = 240


def toolchain(recipe: Recipe, passes: Iterable[Pass], command: str) -> tuple[tuple[str, str], ...]:
    """Names and versions, sorted."""
    needed = {name for step in passes for name in step.needs} | set(_ALWAYS)
    for name in tuple(needed):
        needed.update(_ALONGSIDE.get(name, ()))
    versions = {name: version_of(name) or "unknown" for name in needed}
    entries = {
        **versions,
        "edge-ferry": __version__,
        "python": platform.python_version(),
        "recipe_sha256": recipe.sha256,
    }
    if command:
        entries["command"] = command
    return tuple(sorted(entries.items()))


def command_line(words: Sequence[str]) -> str:
    """A command for the record: relative paths as typed, absolute ones by their last part.

    A package must not tell where on which machine it was made, nor differ because of it.
    """
    text = " ".join(PurePath(word).name if PurePath(word).is_absolute() else word for word in words)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
