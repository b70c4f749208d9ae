"""Opens a PyTorch source: a safe copy of the .pt2 file, checked, and compared with the recipe.

What the file could run is refused by `converter.pt2` before PyTorch sees it; here a program that cannot
be converted as a model that answers is refused: in training mode, with NaN, or for other batches.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.utils import _pytree as pytree

from converter.errors import PassError, Reason, SourceError
from converter.jobs import Job
from converter.passes.finite import means_infinity
from converter.passes.signature import Found, Matched, match
from converter.pt2.archive import write_safe_copy
from converter.recipe import Recipe, shown_path
from converter.source_file import check_source
from edge_runtime.port import AnyArray
from ota_contract.tensors import DYNAMIC

__all__ = ["TorchReference", "TorchSource", "max_batch", "module_of", "open_torch"]

_LINE = 200
_ADVICE = "call model.eval() before torch.export.export"
_MODES = ("train", "training")
"""How ATen's operators call the argument that is true while a model learns."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TorchSource:
    """A checked source."""

    program: torch.export.ExportedProgram
    sha256: str
    matched: Matched
    input_names: tuple[str, ...]
    output_names: tuple[str, ...]
    """Both in the program's own order."""
    max_batch: int | None
    """The largest batch the program takes; None where any."""


def open_torch(job: Job, recipe: Recipe) -> TorchSource:
    """Load and check the source of a recipe.

    Raises:
        SourceError: Not to be opened, unreadable, in training mode, or not what the recipe describes.
        PassError: NaN or infinity among its weights.
    """
    digest, shown = check_source(recipe), shown_path(recipe.source)
    copy = job.folder / "source.pt2"
    write_safe_copy(recipe.source, shown, copy)
    try:
        program = torch.export.load(copy)
    except Exception as error:  # whatever PyTorch raises, the file is at fault
        raise SourceError(f"PyTorch cannot open {shown}: {_first_line(error)}") from error
    copy.unlink()
    _check_mode(program, shown)
    _check_finite(job, program, shown)
    inputs, outputs = list(_inputs(program, shown)), list(_outputs(program))
    return TorchSource(
        program=program,
        sha256=digest,
        matched=match(recipe, inputs, outputs),
        input_names=tuple(item.name for item in inputs),
        output_names=tuple(item.name for item in outputs),
        max_batch=max_batch(program, shown),
    )


def module_of(source: TorchSource) -> torch.nn.Module:
    """The program as a module: the recipe's inputs as the program takes them in, its outputs in order."""
    return _Matched(source)


class TorchReference:
    """The source, ready to be asked."""

    def __init__(self, job: Job, recipe: Recipe) -> None:
        """Check and open the source of a recipe.

        Raises:
            SourceError: It cannot be opened, or is not what the recipe describes.
        """
        torch.set_num_threads(1)  # sums must not depend on how many cores this machine has
        source = open_torch(job, recipe)
        self._inputs = source.matched.inputs
        self._module = module_of(source)
        self.max_batch = 1 if any(item.fixed_batch for item in self._inputs) else source.max_batch
        """How many samples it may be asked about at once; None where any number."""

    def __call__(self, inputs: Mapping[str, AnyArray]) -> list[AnyArray]:
        """The outputs, in the recipe's order, for inputs as the recipe has them after all its steps."""
        fed = []
        for item in self._inputs:
            array = inputs[item.plan.tensor.name]
            if item.permutation:
                array = array.transpose(item.permutation)
            fed.append(torch.from_numpy(np.ascontiguousarray(array, dtype=item.dtype)))
        with torch.inference_mode():
            return [result.numpy() for result in self._module(*fed)]


class _Matched(torch.nn.Module):
    def __init__(self, source: TorchSource) -> None:
        super().__init__()
        self.training = False  # not by eval(): an exported program has one mode, and refuses to be told
        self._inner = source.program.module(check_guards=False)
        spec = source.program.call_spec
        self._in_spec, self._out_spec = spec.in_spec, spec.out_spec
        names = [item.inner for item in source.matched.inputs]
        self._order = [names.index(name) for name in source.input_names]
        self._picked = [source.output_names.index(name) for _, name in source.matched.outputs]

    def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        args, kwargs = pytree.tree_unflatten([tensors[index] for index in self._order], self._in_spec)
        results = pytree.tree_leaves(self._inner(*args, **kwargs))
        return tuple(results[index] for index in self._picked)


def _check_mode(program: torch.export.ExportedProgram, shown: str) -> None:
    for node, schema in _calls(program):
        for position, argument in enumerate(schema.arguments):
            given = node.args[position] if position < len(node.args) else node.kwargs.get(argument.name)
            if argument.name in _MODES and given is True:
                raise SourceError(f"{shown} was exported in training mode ({schema.name}); {_ADVICE}")
    for name in _changed_buffers(program):
        raise SourceError(f"{shown} changes its own buffer {name} when it answers; {_ADVICE}")


def _changed_buffers(program: torch.export.ExportedProgram) -> Iterator[str]:
    """What an answer leaves behind: stated by functional programs, done in place by others."""
    signature = program.graph_signature
    yield from signature.buffers_to_mutate.values()
    for node, schema in _calls(program):
        first = getattr(node.args[0], "name", "") if node.args else ""
        if schema.is_mutable and first in signature.inputs_to_buffers:
            yield signature.inputs_to_buffers[first]


def _calls(program: torch.export.ExportedProgram) -> Iterator[tuple[torch.fx.Node, Any]]:
    for node in program.graph.nodes:
        schema = getattr(node.target, "_schema", None)
        if node.op == "call_function" and schema is not None:
            yield node, schema


def _check_finite(job: Job, program: torch.export.ExportedProgram, shown: str) -> None:
    for name, tensor in {**program.state_dict, **program.constants}.items():
        if not isinstance(tensor, torch.Tensor) or not tensor.is_floating_point():
            continue
        if not torch.isfinite(tensor).all() and not means_infinity(tensor.detach().float().numpy()):
            message = f"{shown}: weight {name} holds NaN or infinity; train the model again"
            raise PassError(job.name, Reason.NOT_FINITE, message)


def _inputs(program: torch.export.ExportedProgram, shown: str) -> Iterator[Found]:
    nodes = {node.name: node for node in program.graph.nodes if node.op == "placeholder"}
    for name in program.graph_signature.user_inputs:
        if not isinstance(name, str):
            raise SourceError(f"{shown} takes {name!r} as an input; export it with tensors alone")
        yield _found(name, nodes[name].meta.get("val"))


def _outputs(program: torch.export.ExportedProgram) -> Iterator[Found]:
    nodes = {node.name: node for node in program.graph.nodes}
    for name in program.graph_signature.user_outputs:
        yield _found(str(name), nodes[name].meta.get("val") if name in nodes else None)


def _found(name: str, value: object) -> Found:
    if not isinstance(value, torch.Tensor):
        return Found(name=name, dtype=None, dims=None, flaw="is no tensor, but a number or nothing")
    dims = tuple(length if isinstance(length, int) else DYNAMIC for length in value.shape)
    try:
        dtype = torch.empty(0, dtype=value.dtype).numpy().dtype
    except TypeError:  # bfloat16 and the like
        return Found(name=name, dtype=None, dims=None, flaw=f"is of {value.dtype}, which devices do not take")
    return Found(name=name, dtype=dtype, dims=dims)


def max_batch(program: torch.export.ExportedProgram, shown: str) -> int | None:
    """The upper bound of the batch dimension.

    Raises:
        SourceError: It does not take one sample alone, as devices do.
    """
    nodes = {node.name: node for node in program.graph.nodes if node.op == "placeholder"}
    most: list[int] = []
    for name in program.graph_signature.user_inputs:
        length = nodes[name].meta["val"].shape[:1]
        if not length or isinstance(length[0], int):
            continue
        bounds = program.range_constraints.get(length[0].node.expr)
        if bounds is None:
            continue
        if bounds.lower > 1:
            raise SourceError(
                f"{shown} takes batches of {bounds.lower} and more, and devices ask about one sample; "
                'export it with dynamic_shapes of torch.export.Dim("batch", min=1)'
            )
        # No bound is an infinity of PyTorch's own, whose `is_finite` is not False.
        if bounds.upper.is_Integer:
            most.append(int(bounds.upper))
    return min(most, default=None)


def _first_line(error: Exception) -> str:
    lines: Sequence[str] = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:_LINE]
