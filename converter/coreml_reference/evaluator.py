"""Evaluates a program operation by operation.

Every operation is computed in double precision and rounded once, to the type the program declares for its
result: half floats behave as half floats between operations, and no order of summation is favoured. How a
device sums within an operation is its own affair and not part of the program.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Mapping, MutableMapping

import numpy as np

from converter.coreml_reference.arguments import Arguments
from converter.coreml_reference.datatypes import Array, narrowed
from converter.coreml_reference.operations import CONTROL, OPERATIONS
from converter.coreml_reference.program import Block, Operation, Program, Reference
from converter.errors import UnsupportedOperationError
from edge_runtime.errors import InferenceError

__all__ = ["Evaluator"]

_CONSTANT = "const"
_MOST_ROUNDS = 100_000
_Scope = MutableMapping[str, Array]


class Evaluator:
    """A program, ready to run; its constants are decompressed once."""

    def __init__(self, program: Program) -> None:
        """Accept a program.

        Raises:
            UnsupportedOperationError: It holds operations not known here; the message names all of them.
            InferenceError: A constant cannot be decompressed.
        """
        unknown = sorted({kind for kind in program.block.kinds() if kind not in OPERATIONS} - {*CONTROL})
        if unknown:
            raise UnsupportedOperationError(", ".join(unknown))
        self._program = program
        self._constants: dict[str, Array] = {}
        pending = []
        for operation in program.block.operations:
            if operation.kind == _CONSTANT or operation.kind.startswith("constexpr_"):
                self._evaluate(operation, self._constants)
            else:
                pending.append(operation)
        self._block = Block(
            inputs=program.block.inputs, operations=tuple(pending), outputs=program.block.outputs
        )

    @property
    def program(self) -> Program:
        """What is evaluated."""
        return self._program

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Evaluate the program once.

        Args:
            inputs: By the program's names; they are rounded to the types it declares.

        Returns:
            The program's results, by its names and in its types.

        Raises:
            UnsupportedOperationError: An operation is used in a way not known here.
            InferenceError: An operation cannot be evaluated; the message names it.
        """
        scope: _Scope = ChainMap({}, self._constants)
        for named in self._program.inputs:
            scope[named.name] = narrowed(inputs[named.name], named.type.element)
        with np.errstate(all="ignore"):  # NaN and infinity are found in the answers
            results = self._block_results(self._block, scope)
        return dict(zip(self._block.outputs, results, strict=True))

    def _block_results(self, block: Block, scope: _Scope) -> list[Array]:
        for operation in block.operations:
            self._evaluate(operation, scope)
        return [scope[name] for name in block.outputs]

    def _evaluate(self, operation: Operation, scope: _Scope) -> None:
        try:
            results = self._results(operation, scope)
        except (ValueError, TypeError, KeyError, IndexError, ArithmeticError, MemoryError) as error:
            raise InferenceError(f"{_shown(operation)} cannot be evaluated: {error}") from error
        if len(results) != len(operation.outputs):
            raise InferenceError(f"{_shown(operation)} gives {len(results)} results")
        for named, value in zip(operation.outputs, results, strict=True):
            result = narrowed(value, named.type.element)
            if not named.type.admits(result.shape):
                declared = list(named.type.shape or ())
                raise InferenceError(
                    f"{_shown(operation)} gives shape {list(result.shape)}, the program declares {declared}"
                )
            scope[named.name] = result

    def _results(self, operation: Operation, scope: _Scope) -> tuple[Array, ...]:
        given = {
            name: tuple(scope[value.name] if isinstance(value, Reference) else value for value in values)
            for name, values in operation.arguments.items()
        }
        if operation.kind == _CONSTANT:
            return given["val"]
        if operation.kind == "cond":
            chosen = operation.blocks[0 if given["pred"][0].item() else 1]
            return tuple(self._block_results(chosen, ChainMap({}, scope)))
        if operation.kind == "while_loop":
            return self._loop(operation, given["loop_vars"], scope)
        result = OPERATIONS[operation.kind](Arguments(operation.kind, given))
        return result if isinstance(result, tuple) else (result,)

    def _loop(self, operation: Operation, values: tuple[Array, ...], scope: _Scope) -> tuple[Array, ...]:
        condition, body = operation.blocks
        for _ in range(_MOST_ROUNDS):
            local = ChainMap(dict(zip(condition.inputs, values, strict=True)), scope)
            if not self._block_results(condition, local)[0].item():
                return values
            local = ChainMap(dict(zip(body.inputs, values, strict=True)), scope)
            values = tuple(self._block_results(body, local))
        raise InferenceError(f"{_shown(operation)} does not end in {_MOST_ROUNDS} rounds")


def _shown(operation: Operation) -> str:
    name = operation.outputs[0].name if operation.outputs else ""
    return f"{operation.kind} {name!r}"
