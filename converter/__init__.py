"""Turns a trained model into a package of small, verified variants.

    from converter import convert
    package = convert(Path("models/digits/recipe.toml"), Path("build/digits"))

Importing this package imports no framework; each pass does so in a process of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from converter.errors import ConverterError

if TYPE_CHECKING:
    from converter.conversion import Conversion, convert

__all__ = ["Conversion", "ConverterError", "convert"]


def __getattr__(name: str) -> Any:  # noqa: ANN401 - what a module holds
    if name in ("Conversion", "convert"):
        import converter.conversion  # noqa: PLC0415 - reading a package needs none of it

        return getattr(converter.conversion, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
