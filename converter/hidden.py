"""Hides an installed package from the imports of this process."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

__all__ = ["hide"]


class _Without(MetaPathFinder):
    """Another finder that does not find one package."""

    def __init__(self, finder: Any, name: str) -> None:  # noqa: ANN401 - finders agree on no type
        self._finder = finder
        self._name = name

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401
        return getattr(self._finder, name)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """What the other finds, but for the package and what is in it."""
        if fullname.partition(".")[0] == self._name:
            return None
        spec: ModuleSpec | None = self._finder.find_spec(fullname, path, target)
        return spec


def hide(name: str) -> None:
    """Make `import name` fail from now on, as if it were not installed.

    None in `sys.modules` would do the same for `import`, but others look there to ask whether the
    package is loaded, and take None for a module. A finder that raises would do it too, but PyTorch asks
    `importlib.util.find_spec` of packages it can do without, and expects None.
    """
    sys.meta_path[:] = [_Without(finder, name) for finder in sys.meta_path]
