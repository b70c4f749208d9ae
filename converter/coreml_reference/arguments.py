"""What an operation is given, by name, with the defaults MIL leaves to the reader."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from converter.coreml_reference.datatypes import Array, widened
from converter.errors import UnsupportedOperationError

__all__ = ["Arguments", "Compute"]


class Arguments:
    """The arguments of one operation; floats come as doubles, integers as 64-bit ones."""

    def __init__(self, kind: str, values: Mapping[str, Sequence[Array]]) -> None:
        """Hold the values an operation of this kind takes: one by name, or several for a list."""
        self.kind = kind
        self._values = values

    def __contains__(self, name: str) -> bool:
        """Whether an optional argument is given."""
        return name in self._values

    def __getitem__(self, name: str) -> Array:
        """A required tensor."""
        return widened(self._values[name][0])

    def optional(self, name: str) -> Array | None:
        """A tensor, or None where it is not given."""
        return self[name] if name in self._values else None

    def many(self, name: str) -> tuple[Array, ...]:
        """An argument that is a list of tensors."""
        return tuple(widened(value) for value in self._values[name])

    def integer(self, name: str, default: int | None = None) -> int:
        """A whole number."""
        return default if default is not None and name not in self._values else int(self[name].item())

    def number(self, name: str, default: float | None = None) -> float:
        """A number."""
        return default if default is not None and name not in self._values else float(self[name].item())

    def flag(self, name: str, *, default: bool = False) -> bool:
        """A truth value."""
        return bool(self[name].item()) if name in self._values else default

    def text(self, name: str, default: str | None = None) -> str:
        """A word, in lower case: MIL's readers do not mind the case."""
        given = default if default is not None and name not in self._values else str(self[name].item())
        return given.lower()

    def integers(self, name: str, default: Sequence[int] | None = None) -> tuple[int, ...]:
        """A vector of whole numbers."""
        if default is not None and name not in self._values:
            return tuple(default)
        return tuple(int(value) for value in self[name].reshape(-1))

    def flags(self, name: str, count: int) -> tuple[bool, ...]:
        """A vector of truth values, all false where it is not given."""
        if name not in self._values:
            return (False,) * count
        return tuple(bool(value) for value in self[name].reshape(-1))

    def axes(self, rank: int, name: str = "axes") -> tuple[int, ...]:
        """Axes from the front; all of them where none is given."""
        given = self.integers(name, range(rank))
        if any(not -rank <= axis < rank for axis in given):
            raise ValueError(f"{name} {list(given)} of a tensor of rank {rank}")
        return tuple(axis % rank for axis in given)

    def unsupported(self, why: str) -> UnsupportedOperationError:
        """The error of a variety of the operation that is not evaluated."""
        return UnsupportedOperationError(self.kind, why)


Compute = Callable[[Arguments], "Array | tuple[Array, ...]"]
"""An operation's meaning, computed wider than it is declared; the evaluator rounds the result."""
