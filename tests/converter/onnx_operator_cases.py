"""Runs onnx's own tests of operators: `python -m tests.converter.onnx_operator_cases TARGET`.

Each test of one operator becomes a model of the target, which is saved, read again and run: an mlpackage by
the reference evaluator of MIL, a TFLite file by LiteRT, a module by PyTorch. The answers must be those onnx
states. Prints what came of it as JSON.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import importlib
import json
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import onnx
from onnx import numpy_helper
from onnx.backend.test.loader import load_model_tests

from converter.errors import ConverterError
from converter.passes.onnx_source import MAX_OPSET
from tests.converter.forked import forked

__all__ = ["FOLDED", "TARGETS", "Case", "Report", "chosen", "compare", "judged", "operators_of_onnx"]

_WEIGHTED = {"ConvTranspose", "GRU", "LSTM", "RNN", "Resize", "QuantizeLinear", "DequantizeLinear"}
"""What models hold as weights of these must be known; of others, floats may be computed."""
FOLDED = ("Constant", "Range", "Shape", "Size")
"""Computed before an importer sees a graph, where shapes are fixed."""
TARGETS = {
    "coreml": ("tests.converter.coreml_answers", "answers_of", "converter.onnx_to_mil.table"),
    "tflite": ("tests.converter.tflite_answers", "answers_of", "converter.onnx_to_torch.table"),
    "torch": ("tests.converter.tflite_answers", "module_answers_of", "converter.onnx_to_torch.table"),
}
"""Where answers come from, and the table of operators; each hides what it must not import."""
_RELATIVE, _ABSOLUTE = 1e-3, 1e-5
_HALF = 1e-2
_AT_ONCE = 24


class Case(NamedTuple):
    """One of onnx's tests, with what models hold as weights inside the model."""

    name: str
    operator: str
    model: Any
    inputs: dict[str, Any]
    outputs: list[Any]


Report = dict[str, Any]
"""By operator: `verified`, names of tests; `refused`, counts by reason; `wrong`, a line for each test."""


def judged(results: Iterable[tuple[Case, Callable[[], list[Any]]]]) -> Report:
    """What became of cases whose answers are computed by the functions beside them."""
    verified: dict[str, list[str]] = {}
    refused: dict[str, Counter[str]] = {}
    wrong: dict[str, list[str]] = {}
    for case, answers in results:
        try:
            for one, wanted in zip(answers(), case.outputs, strict=True):
                compare(one, wanted)
        except ConverterError as error:
            refused.setdefault(case.operator, Counter())[_reason(str(error), case.operator)] += 1
        except Exception as error:  # noqa: BLE001 - any other end is a finding
            line = f"{case.name}: {' '.join(str(error).split())[:200]}"
            wrong.setdefault(case.operator, []).append(line)
        else:
            verified.setdefault(case.operator, []).append(case.name)
    return {"verified": verified, "refused": refused, "wrong": wrong}


def chosen(most: int) -> Iterator[Case]:
    """Tests spread evenly over those of each operator, at most so many of each."""
    by_operator: dict[str, list[Case]] = {}
    for case in _cases():
        by_operator.setdefault(case.operator, []).append(case)
    for cases in by_operator.values():
        count = min(most, len(cases))
        yield from (cases[place * len(cases) // count] for place in range(count))


def _cases() -> Iterator[Case]:
    """Tests of one operator, with what models hold as weights inside."""
    every = operators_of_onnx()
    for case in load_model_tests(kind="node"):
        model = onnx.ModelProto.FromString(case.model.SerializeToString())
        if len(model.graph.node) != 1 or model.graph.node[0].op_type not in every - {*FOLDED}:
            continue
        model.opset_import[0].version = min(model.opset_import[0].version, MAX_OPSET)
        model.ir_version = onnx.helper.find_min_ir_version_for(list(model.opset_import))
        arrays, outputs = ([_array(item) for item in items] for items in case.data_sets[0])
        try:
            onnx.checker.check_model(model, full_check=True)
        except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError):
            continue  # of a later opset
        if not all(_within(item) for item in (*arrays, *outputs)):
            continue
        yield Case(case.name, model.graph.node[0].op_type, model, _fed(model, arrays), outputs)


def _array(item: Any) -> Any:
    if isinstance(item, onnx.TensorProto):
        return numpy_helper.to_array(item)
    return np.asarray(item) if isinstance(item, (np.ndarray, np.generic)) else None


def _within(array: Any) -> bool:
    """Numbers devices have: neither text, nor types of four and eight bits, nor integers beyond 32 bits."""
    if array is None or array.dtype.kind not in "fiub" or not array.size:
        return False
    if array.dtype.kind == "f" and array.dtype.itemsize == 1:
        return False
    limits = np.iinfo(np.int32)
    return array.dtype.kind in "fb" or bool(array.min() >= limits.min and array.max() <= limits.max)


def _fed(model: Any, arrays: list[Any]) -> dict[str, Any]:
    """Floats and the first input are fed; the rest become initializers."""
    given = list(model.graph.input)
    weighted = model.graph.node[0].op_type in _WEIGHTED
    fed = {}
    for place, (item, array) in enumerate(zip(given, arrays, strict=True)):
        if array.ndim and (place == 0 or (array.dtype.kind == "f" and not weighted)):
            fed[item.name] = array
        else:
            model.graph.initializer.append(numpy_helper.from_array(array, item.name))
    kept = [onnx.ValueInfoProto.FromString(item.SerializeToString()) for item in given if item.name in fed]
    del model.graph.input[:]
    model.graph.input.extend(kept)
    return fed


def compare(got: Any, wanted: Any) -> None:
    """Refuse answers that are not the stated ones.

    Raises:
        AssertionError: Another shape, or other values.
    """
    half = wanted.dtype == np.float16
    shape = wanted.shape or np.shape(got)  # Core ML has no scalars among its answers
    if np.shape(got) != shape or (not wanted.shape and np.size(got) != 1):
        raise AssertionError(f"shape {np.shape(got)} instead of {wanted.shape}")
    np.testing.assert_allclose(
        np.asarray(got).astype(np.float64),
        wanted.astype(np.float64).reshape(shape),
        rtol=_HALF if half else _RELATIVE,
        atol=_HALF if half else _ABSOLUTE,
    )


def _reason(message: str, kind: str) -> str:
    if " is of type " in message:
        return f"type {message.rpartition(' ')[2]}"
    if f"op {kind} (" not in message:
        return message
    text = message.partition(f"op {kind} (")[2]
    return text.partition("): ")[2] or "not in the table"


def operators_of_onnx() -> set[str]:
    """The operators of the newest opset that is accepted."""
    names = {
        schema.name
        for schema in onnx.defs.get_all_schemas_with_history()
        if schema.domain == "" and schema.since_version <= MAX_OPSET
    }
    return {name for name in names if _current(name)}


def _current(name: str) -> bool:
    try:
        return not onnx.defs.get_schema(name, MAX_OPSET, "").deprecated
    except onnx.defs.SchemaError:
        return False


def _together(cases: list[Case], source: Any) -> Iterator[tuple[Case, Callable[[], list[Any]]]]:
    """Answers to many cases at once, and to each alone where one of them spoils it.

    What a module cannot be made of is refused before that. All is done in forks: native code of litert_torch
    has crashed.
    """
    made: list[Case] = []
    for case in cases:
        try:
            source.module_answers_of(case.model, case.inputs)
        except ConverterError:
            yield case, partial(source.module_answers_of, case.model, case.inputs)
        else:
            made.append(case)
    for start in range(0, len(made), _AT_ONCE):
        group = made[start : start + _AT_ONCE]
        try:
            answers = forked(source.answers_of_several, [(case.model, case.inputs) for case in group])
        except Exception:  # noqa: BLE001 - which of them it is comes out alone
            yield from ((case, partial(forked, source.answers_of, case.model, case.inputs)) for case in group)
        else:
            yield from ((case, partial(list, answer)) for case, answer in zip(group, answers, strict=True))


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("--most", type=int, default=1000, help="tests of one operator (default: all)")
    parser.add_argument("--every", type=int, default=1, help="one operator of so many (default: each)")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    module, name, table = TARGETS[arguments.target]
    source = importlib.import_module(module)
    answers_of = getattr(source, name)
    groups = importlib.import_module(table).GROUPS
    gc.freeze()  # coremltools collects after every conversion, and would walk all modules
    known = sorted(name for group in groups.values() for name in group)
    tried = {*known[:: arguments.every]}
    cases = [case for case in chosen(arguments.most) if case.operator in tried or arguments.every == 1]
    with contextlib.redirect_stdout(sys.stderr):  # converters print their progress
        if arguments.target == "tflite":
            report = judged(_together(cases, source))
        else:
            report = judged((case, partial(answers_of, case.model, case.inputs)) for case in cases)
    report["groups"] = {group: sorted(operators) for group, operators in groups.items()}
    sys.stdout.write(json.dumps(report) + "\n")
    return 1 if report["wrong"] else 0


if __name__ == "__main__":
    sys.exit(main())
