"""Hides an installed package from the imports of this process."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

__all__ = ["hide"]


class _Hidden(MetaPathFinder):
    """Finds nothing, and keeps the finders after it from looking."""

    def __init__(self, name: str) -> None:
        self._name = name

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Refuse the package and what is in it."""
        del path, target
        if fullname.partition(".")[0] == self._name:
            raise ModuleNotFoundError(f"{self._name} is hidden in this process", name=self._name)
        return None


def hide(name: str) -> None:
    """Make `import name` fail from now on, as if it were not installed.

    None in `sys.modules` would do the same for `import`, but others look there to ask whether the
    package is loaded, and take None for a module.
    """
    sys.meta_path.insert(0, _Hidden(name))
