"""Opens a SavedModel source: its graph is read and checked as data before TensorFlow loads it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow.python.framework import op_def_registry

from converter.errors import PassError, Reason, SourceError
from converter.jobs import Job
from converter.passes.signature import Found, Matched, match
from converter.recipe import Recipe, shown_path
from converter.saved_model_folder import GRAPH, VARIABLES
from converter.source_file import check_source

__all__ = ["ServingFunction", "open_saved_model"]

_SIGNATURE = "serving_default"
_LINE = 200
_CODE = frozenset({"PyFunc", "PyFuncStateless", "EagerPyFunc"})
_OUTSIDE = frozenset(
    {
        "ImmutableConst", "MatchingFiles", "MergeV2Checkpoints", "ReadFile", "Restore", "RestoreSlice",
        "RestoreV2", "Save", "SaveSlices", "SaveV2", "WriteFile",
    }
)  # fmt: skip
"""They read or write files; in every SavedModel's saver, and in no function that answers."""
_SAVER = frozenset({"MergeV2Checkpoints", "RestoreV2", "SaveV2"})
_MAX_NODES = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class _Taken:
    """An input of the serving function, as `keras_model.trace` looks at a Keras model's."""

    dtype: Any


class ServingFunction:
    """The serving signature, called like a Keras model: tensors in the recipe's order in and out."""

    def __init__(self, loaded: Any, matched: Matched) -> None:  # noqa: ANN401 - TensorFlow publishes no types
        """Hold the loaded model, whose variables live as long as it does."""
        self._loaded = loaded
        self._function = loaded.signatures[_SIGNATURE]
        self._matched = matched
        self.inputs = [_Taken(dtype=tf.as_dtype(item.dtype)) for item in matched.inputs]
        self.one_by_one = any(item.fixed_batch for item in matched.inputs)
        """Whether it takes one batch size alone."""

    def __call__(self, tensors: Any, *, training: bool = False) -> list[Any]:  # noqa: ANN401
        """The answers; `training` is as the graph was saved."""
        del training
        fed = tensors if isinstance(tensors, (list, tuple)) else [tensors]
        named = {
            item.inner: tf.convert_to_tensor(tensor)
            for item, tensor in zip(self._matched.inputs, fed, strict=True)
        }
        answers: Mapping[str, Any] = self._function(**named)
        return [answers[inner] for _, inner in self._matched.outputs]


def open_saved_model(job: Job, recipe: Recipe) -> ServingFunction:
    """Check and load the source of a recipe.

    Raises:
        SourceError: Damaged, without a serving signature, in need of code or files, or not what the
            recipe describes.
        PassError: NaN or infinity among its variables.
    """
    check_source(recipe)  # again, here: the folder may have changed since the parent looked
    shown = shown_path(recipe.source)
    _check_graph(recipe, shown)
    try:
        loaded = tf.saved_model.load(str(recipe.source))
        function = loaded.signatures[_SIGNATURE]
    except Exception as error:  # whatever TensorFlow raises, the folder is at fault
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise SourceError(f"TensorFlow cannot open {shown}: {lines[0][:_LINE]}") from error
    for variable in getattr(function, "variables", ()):
        if variable.dtype.is_floating and not np.isfinite(variable.numpy()).all():
            message = f"{shown}: variable {variable.name} holds NaN or infinity; train the model again"
            raise PassError(job.name, Reason.NOT_FINITE, message)
    _, named = function.structured_input_signature
    return ServingFunction(
        loaded, match(recipe, _found(named.items()), _found(function.structured_outputs.items()))
    )


def _check_graph(recipe: Recipe, shown: str) -> None:
    saved = saved_model_pb2.SavedModel()
    try:
        saved.ParseFromString((recipe.source / GRAPH).read_bytes())
    except (DecodeError, OSError) as error:
        raise SourceError(f"{shown}: {GRAPH} is damaged or cut short") from error
    if len(saved.meta_graphs) != 1:
        raise SourceError(f"{shown} holds {len(saved.meta_graphs)} graphs, one is read; save it again")
    meta = saved.meta_graphs[0]
    if not meta.HasField("object_graph_def"):
        raise SourceError(f"{shown} was saved by TensorFlow 1; load it and save it by TensorFlow 2")
    if _SIGNATURE not in meta.signature_def:
        known = ", ".join(sorted(name for name in meta.signature_def if not name.startswith("__"))) or "none"
        raise SourceError(
            f"{shown} has no signature {_SIGNATURE} (it has {known[:_LINE]}); save it with "
            "tf.saved_model.save(model, folder, signatures=function), or model.export(folder)"
        )
    _check_operators(meta, shown)
    objects = meta.object_graph_def.nodes
    if any(node.saveable_objects or node.registered_saver for node in objects):
        # Loading would call these, and a model of variables alone has none.
        raise SourceError(f"{shown} is saved and restored by functions of its own, which would run")
    kinds = [node.WhichOneof("kind") for node in objects]
    if "resource" in kinds or "asset" in kinds:
        raise SourceError(f"{shown} holds lookup tables or files of its own, which no runtime here takes")
    if "variable" in kinds and not (recipe.source / VARIABLES).is_file():
        raise SourceError(f"{shown} has no {VARIABLES}, so its weights are missing; copy the whole folder")


def _check_operators(meta: Any, shown: str) -> None:  # noqa: ANN401
    library = {function.signature.name: function.node_def for function in meta.graph_def.library.function}
    operators = {node.op for nodes in (meta.graph_def.node, *library.values()) for node in nodes}
    if sum(len(nodes) for nodes in (meta.graph_def.node, *library.values())) > _MAX_NODES:
        raise SourceError(f"{shown}: more than {_MAX_NODES} operators")
    if code := sorted(operators & _CODE):
        raise SourceError(
            f"{shown} calls back into Python ({', '.join(code)}), code that is not in it; "
            "write that part in TensorFlow's operators"
        )
    unknown = sorted(name for name in operators - library.keys() if op_def_registry.get(name) is None)
    if unknown:
        raise SourceError(
            f"{shown} needs operators that TensorFlow does not have: {', '.join(unknown)[:_LINE]}"
        )
    _check_files(meta, library, shown)


def _check_files(meta: Any, library: Mapping[str, Any], shown: str) -> None:  # noqa: ANN401
    """Every SavedModel has functions that save and restore it, which loading it does not call; no more."""
    outputs = [info.name for info in meta.signature_def[_SIGNATURE].outputs.values()]
    answering = list(_behind(meta, outputs))
    called = _called(answering, library)
    saving = _called(
        _behind(meta, [meta.saver_def.save_tensor_name, meta.saver_def.restore_op_name]), library
    )
    for name, nodes in ((_SIGNATURE, answering), *library.items()):
        found = {node.op for node in nodes} & _OUTSIDE
        if found and not (found <= _SAVER and name in saving - called):
            raise SourceError(
                f"{shown} reads or writes files by itself ({', '.join(sorted(found))} in {name[:80]})"
            )


def _behind(meta: Any, names: Iterable[str]) -> Iterator[Any]:  # noqa: ANN401
    """The nodes of the main graph that some tensors are computed from."""
    nodes = {node.name: node for node in meta.graph_def.node}
    pending, seen = list(names), set[str]()
    while pending:
        name = pending.pop().removeprefix("^").partition(":")[0]
        if name in seen or name not in nodes:
            continue
        seen.add(name)
        yield nodes[name]
        pending.extend(nodes[name].input)


def _called(nodes: Iterable[Any], library: Mapping[str, Any]) -> set[str]:
    """The functions that some nodes call, and those that these call."""
    pending, found = list(nodes), set[str]()
    while pending:
        for value in pending.pop().attr.values():
            for name in (value.func.name, *(item.name for item in value.list.func)):
                if name in library and name not in found:
                    found.add(name)
                    pending.extend(library[name])
    return found


def _found(items: Iterable[tuple[str, Any]]) -> Sequence[Found]:
    found = []
    for name, spec in items:
        known = spec.shape.rank is not None
        dims = tuple(-1 if length is None else int(length) for length in spec.shape) if known else None
        try:
            dtype: np.dtype[Any] | None = np.dtype(spec.dtype.as_numpy_dtype)
        except TypeError:
            dtype = None
        flaw = "" if dtype is not None and dtype.kind != "O" else f"is of type {spec.dtype.name}"
        found.append(Found(name=name, dtype=None if flaw else dtype, dims=dims, flaw=flaw))
    return found
