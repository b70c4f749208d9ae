"""A saved ML program as values: blocks of operations, their types and constants."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from converter.coreml_reference.datatypes import Array, TensorType

__all__ = ["Block", "Named", "Operation", "Program", "Reference"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """A value a program computes or is given."""

    name: str
    type: TensorType


@dataclass(frozen=True, slots=True)
class Reference:
    """An argument that is the value of this name."""

    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One operation: what it is, what it takes, what it gives."""

    kind: str
    arguments: Mapping[str, tuple[Reference | Array, ...]]
    outputs: tuple[Named, ...]
    blocks: tuple[Block, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """Operations in order; the names of what is given in and taken out."""

    inputs: tuple[str, ...]
    operations: tuple[Operation, ...]
    outputs: tuple[str, ...]

    def kinds(self) -> Iterator[str]:
        """The kind of every operation, inner blocks' too."""
        for operation in self.operations:
            yield operation.kind
            for block in operation.blocks:
                yield from block.kinds()


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """The main function of a saved model."""

    inputs: tuple[Named, ...]
    block: Block
    images: Mapping[str, bool]
    """The inputs that are pictures; True where the model wants blue first."""
