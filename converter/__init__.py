"""Turns a trained model into a package of small, verified variants.

    from converter import convert
    package = convert("models/digits/recipe.toml", "build/digits")

Importing this package imports no framework; each pass does so in a process of its own. The guide is
`docs/python-api.md`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from converter.errors import ConverterError

if TYPE_CHECKING:
    from converter.conversion import convert
    from converter.package import OpenVariant, Package
    from converter.recipe import Overrides

__all__ = ["ConverterError", "OpenVariant", "Overrides", "Package", "convert"]

_MODULES = {"convert": "conversion", "OpenVariant": "package", "Overrides": "recipe", "Package": "package"}


def __getattr__(name: str) -> Any:  # noqa: ANN401 - what a module holds
    if name in _MODULES:  # imported when asked for: reading a package needs none of it
        return getattr(importlib.import_module(f"converter.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
