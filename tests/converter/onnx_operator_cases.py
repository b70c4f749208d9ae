"""Runs onnx's own tests of operators through the importer: `python -m tests.converter.onnx_operator_cases`.

Each test of one operator becomes an mlpackage, which is saved, read again and evaluated by the
reference evaluator of MIL; the answers must be those onnx states. Prints what came of it as JSON, or with
`--docs FILE` writes the page people read.
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.converter.coreml_answers import answers_of  # isort: skip # hides TensorFlow before all else
import numpy as np
import onnx
from onnx import numpy_helper
from onnx.backend.test.loader import load_model_tests

from converter.errors import ConverterError
from converter.onnx_to_mil.table import GROUPS, OPERATORS
from converter.passes.onnx_source import MAX_OPSET

__all__ = ["Outcome", "page"]

_WEIGHTED = {"ConvTranspose", "GRU", "LSTM", "RNN", "Resize", "QuantizeLinear", "DequantizeLinear"}
"""What models hold as weights of these must be known; of others, floats may be computed."""
_FOLDED = ("Constant", "Range", "Shape", "Size")
"""Computed before the importer sees a graph, where shapes are fixed."""
_RELATIVE, _ABSOLUTE = 1e-3, 1e-5
_HALF = 1e-2


@dataclass
class Outcome:
    """What became of one operator's tests."""

    verified: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)


_Case = tuple[str, Any, dict[str, Any], list[Any]]


def run(most: int) -> dict[str, Outcome]:
    """The tests in scope by operator, at most so many of each."""
    outcomes: dict[str, Outcome] = {}
    for name, model, inputs, outputs in _chosen(most):
        kind = model.graph.node[0].op_type
        outcome = outcomes.setdefault(kind, Outcome())
        try:
            got = answers_of(model, inputs)
            for one, wanted in zip(got, outputs, strict=True):
                _compare(one, wanted)
        except ConverterError as error:
            outcome.refused[_reason(str(error), kind)] += 1
        except Exception as error:  # noqa: BLE001 - any other end is a finding
            outcome.wrong.append(f"{name}: {' '.join(str(error).split())[:200]}")
        else:
            outcome.verified += 1
    return outcomes


def _chosen(most: int) -> Iterator[_Case]:
    """Tests spread evenly over those of each operator."""
    by_operator: dict[str, list[_Case]] = {}
    for case in _cases():
        by_operator.setdefault(case[1].graph.node[0].op_type, []).append(case)
    for cases in by_operator.values():
        count = min(most, len(cases))
        yield from (cases[place * len(cases) // count] for place in range(count))


def _cases() -> Iterator[_Case]:
    """Tests of one operator of the table, with what models hold as weights inside."""
    for case in load_model_tests(kind="node"):
        model = onnx.ModelProto.FromString(case.model.SerializeToString())
        if len(model.graph.node) != 1 or model.graph.node[0].op_type not in OPERATORS:
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
        yield case.name, model, _fed(model, arrays), outputs


def _array(item: Any) -> Any:
    if isinstance(item, onnx.TensorProto):
        return numpy_helper.to_array(item)
    return np.asarray(item) if isinstance(item, (np.ndarray, np.generic)) else None


def _within(array: Any) -> bool:
    """Numbers Core ML has: neither text, nor types of four and eight bits, nor integers beyond 32 bits."""
    if array is None or array.dtype.kind not in "fiub" or not array.size:
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


def _compare(got: Any, wanted: Any) -> None:
    half = wanted.dtype == np.float16
    shape = wanted.shape or (1,)  # Core ML has no scalars among its answers
    np.testing.assert_allclose(
        got.astype(np.float64),
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


def page(outcomes: Mapping[str, Outcome]) -> str:
    """The page about operators."""
    total = sum(outcome.verified for outcome in outcomes.values())
    lines = [
        "# ONNX operators for Core ML",
        "",
        "<!-- Written by `python -m tests.converter.onnx_operator_cases --docs docs/onnx-operators.md`. -->",
        "",
        f"How each operator of opsets 13 to {MAX_OPSET} fares on the way to Core ML, by onnx's own tests of",
        "operators. *Verified* counts tests whose mlpackage, saved and read again, gives the stated answers",
        "in the reference evaluator of MIL, in FP32. That proves what the program means, not what Apple's",
        f"compiler makes of it: no test here ran on Apple hardware. {total} tests agree, none disagrees.",
        "",
        "Shapes are fixed, and tensors have at most five axes. Floats of 16 and 64 bits are computed in the",
        "variant's precision, whole numbers in 32 bits. Whatever a test covers or not, a result of another",
        "shape or kind than ONNX infers is refused.",
    ]
    for group, operators in GROUPS.items():
        lines += ["", f"## {group}", "", "| operator | verified | refused uses |", "|---|---|---|"]
        lines += [_row(name, outcomes.get(name, Outcome())) for name in sorted(operators)]
    lines += ["", "## Computed beforehand", ""]
    lines += [f"{', '.join(_FOLDED)}: they follow from the fixed shapes; what is left of them is refused."]
    lines += ["", "## Refused by name", "", f"{', '.join(sorted(_refused()))}."]
    return "\n".join(lines) + "\n"


def _row(name: str, outcome: Outcome) -> str:
    verified = str(outcome.verified) if outcome.verified else "not yet"
    return f"| {name} | {verified} | {'; '.join(sorted(outcome.refused)).replace('|', '/')} |"


def _refused() -> set[str]:
    names = {
        schema.name
        for schema in onnx.defs.get_all_schemas_with_history()
        if schema.domain == "" and schema.since_version <= MAX_OPSET
    }
    return {name for name in names if _current(name)} - OPERATORS.keys() - {*_FOLDED}


def _current(name: str) -> bool:
    try:
        return not onnx.defs.get_schema(name, MAX_OPSET, "").deprecated
    except onnx.defs.SchemaError:
        return False


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--docs", type=Path, help="write the page people read")
    parser.add_argument("--most", type=int, default=1000, help="tests of one operator (default: all)")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    gc.freeze()  # coremltools collects after every conversion, and would walk all modules
    outcomes = run(arguments.most)
    wrong = {name: outcome.wrong for name, outcome in outcomes.items() if outcome.wrong}
    if arguments.docs and not wrong:
        arguments.docs.write_text(page(outcomes))
    verified = {name: outcome.verified for name, outcome in outcomes.items()}
    sys.stdout.write(json.dumps({"wrong": wrong, "verified": verified, "page": page(outcomes)}) + "\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
